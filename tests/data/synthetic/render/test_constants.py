"""What is part of the generator's identity: a frozen list of keys, each declared where the constant stands."""

import ast
import importlib
import inspect
from pathlib import Path

import pytest

from ecg_jax.data.synthetic import constants
from ecg_jax.data.synthetic.render import identity

KEYS = Path(__file__).parent / "generator_constants.txt"


def assigned_and_declared(source: str) -> tuple[set[str], set[str]]:
    """The names in capitals that a module assigns at its top level, and those that it declares."""
    assigned, named = set(), set()
    for statement in ast.parse(source).body:
        match statement:
            case ast.Assign(targets=targets):
                assigned |= {node.id for target in targets for node in ast.walk(target) if isinstance(node, ast.Name)}
            case ast.AnnAssign(target=ast.Name(id=name)):
                assigned.add(name)
            case ast.Expr(value=ast.Call(func=ast.Name(id="declare"), args=[_, _, ast.Constant(value=names)])):
                named |= set(names.split())
    return {name for name in assigned if name.isupper()}, named


def test_the_keys_are_those_of_the_published_generator():
    assert sorted(identity.constants()) == KEYS.read_text().split()


@pytest.mark.parametrize("module", identity.rendering_modules())
def test_every_constant_of_a_module_that_renders_is_declared(module):
    source = inspect.getsource(importlib.import_module(module))
    assigned, declared = assigned_and_declared(source)
    not_data = {name for name in assigned if callable(vars(importlib.import_module(module))[name])}
    assert assigned - not_data - declared == set(), f"add to declare(...) at the end of {module}"


def test_a_constant_without_a_declaration_is_seen():
    assert assigned_and_declared('A, (_B, c) = 1, (2, 3)\nC: int = 4\ndeclare("m", vars(), "A C")') == (
        {"A", "_B", "C"},
        {"A", "C"},
    )


def test_moving_a_constant_to_another_file_changes_nothing():
    before = identity.fingerprint()
    elsewhere = {"LF_HZ": importlib.import_module("ecg_jax.data.synthetic.physiology.rhythm").LF_HZ}
    constants.declare("rhythm", elsewhere, "LF_HZ")
    assert identity.fingerprint() == before


def test_what_another_version_declares_changes_nothing_of_this_one():
    before = identity.fingerprint()
    constants.declare("rhythm", {"LF_HZ": 0.2}, "LF_HZ", version=3)
    try:
        assert identity.fingerprint() == before
        assert constants.declared(3)["rhythm.LF_HZ"] == "0.2" != constants.declared()["rhythm.LF_HZ"]
    finally:
        del constants._DECLARED[3]["rhythm.LF_HZ"]


def test_one_key_for_two_values_is_refused():
    with pytest.raises(ValueError, match=r"rhythm\.LF_HZ was declared before, with another value"):
        constants.declare("rhythm", {"LF_HZ": 0.2}, "LF_HZ")
    with pytest.raises(KeyError, match="ABSENT"):
        constants.declare("rhythm", {}, "ABSENT")
    with pytest.raises(TypeError, match="cannot hash object"):
        constants.declare("rhythm", {"NEW": object()}, "NEW")
