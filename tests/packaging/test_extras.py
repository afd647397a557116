"""The base install is small, and who lacks a package is told what to install."""

import ast
import importlib.metadata
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from ecg_jax.extras import needs

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
#: What no extra brings: it says so itself, or comes with hardware.
ON_THEIR_OWN = {"wandb", "libtpu"}


def distributions(requirements: list[str]) -> set[str]:
    """The distributions that requirements name, those of extras of ours included."""
    found = set()
    for requirement in requirements:
        name, extras = re.match(r"([\w.-]+)(?:\[([\w,]+)\])?", requirement).groups()
        if name == PROJECT["name"]:
            found.update(*(brought_by(extra) for extra in extras.split(",")))
        else:
            found.add(name.lower().replace("_", "-"))
    return found


def brought_by(extra: str) -> set[str]:
    return distributions(PROJECT["optional-dependencies"][extra])


def imports(node: ast.AST, extra: str | None = None):
    """Every import under `node` by its top-level name, with the extra that it is said to need; none that only type
    checkers see."""
    if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
        return
    if isinstance(node, ast.With) and ast.unparse(node).startswith("with needs("):
        extra = ast.literal_eval(node.items[0].context_expr.args[0])
    if isinstance(node, ast.Try) and (told := re.search(r"pip install 'ecg-jax\[(\w+)\]'", ast.unparse(node))):
        extra = told[1]  # in scaling_fits, which knows nothing of ecg_jax
    if isinstance(node, ast.Import):
        yield from ((alias.name.partition(".")[0], extra) for alias in node.names)
    if isinstance(node, ast.ImportFrom):
        yield node.module.partition(".")[0], extra
    for child in ast.iter_child_nodes(node):
        yield from imports(child, extra)


def test_every_import_beyond_the_base_names_the_extra_that_brings_it():
    brings = importlib.metadata.packages_distributions()
    base, wrong, seen = distributions(PROJECT["dependencies"]), [], set()
    for path in sorted(path for name in ("ecg_jax", "scaling_fits") for path in (ROOT / name).rglob("*.py")):
        for module, extra in imports(ast.parse(path.read_text())):
            if module in sys.stdlib_module_names or module in ON_THEIR_OWN | {"ecg_jax", "scaling_fits"}:
                continue
            makers = {name.lower().replace("_", "-") for name in brings.get(module, [module])}
            seen.add(extra)
            if not makers & (base if extra is None else brought_by(extra)):
                wrong.append(f"{path.relative_to(ROOT)}: {module} is not brought by {extra or 'the base'}")
    assert not wrong, "\n".join(wrong)
    assert seen == {None, "train", "real", "evaluate", "posterior", "watch"}  # so many were looked at


def test_what_is_missing_is_told_in_one_line_with_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "wfdb", None)
    told = r"^wfdb is not installed: pip install 'ecg-jax\[real\]'$"
    with pytest.raises(ModuleNotFoundError, match=told) as raised, needs("real"):
        import wfdb  # noqa: F401
    assert raised.value.name == "wfdb"


def test_the_generator_mixing_fits_and_finished_runs_need_the_base_alone():
    """And what needs more says so when it is asked for; a command still tells its errors in one line."""
    missing = ["flax", "optax", "orbax", "grain", "array_record", "tensorflow_datasets", "safetensors", "etils"]
    script = f"""
import sys
for name in {[*missing, "wfdb", "soundfile", "h5py", "numpyro", "tensorboard"]}:
    sys.modules[name] = None
import ecg_jax
import ecg_jax.__main__, ecg_jax.data.synthetic.__main__, scaling_fits.commands, scaling_fits.fit
(ecg_jax.SyntheticSource, ecg_jax.Mixture, ecg_jax.RecordPool, ecg_jax.ladder.table, ecg_jax.load_run, ecg_jax.draw)
for module, name in ((ecg_jax, "load_encoder"), (ecg_jax, "open_shards"), (scaling_fits, "sample_posterior")):
    try:
        getattr(module, name)
    except ModuleNotFoundError as error:
        print(error)
print(ecg_jax.__main__.main(["status", "nowhere"]))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.splitlines() == [
        "flax is not installed: pip install 'ecg-jax[train]'",
        "tensorflow_datasets is not installed: pip install 'ecg-jax[train]'",
        "numpyro is not installed: pip install 'ecg-jax[posterior]'",
        "2",
    ]
    assert "error: " in done.stderr and "nowhere" in done.stderr
