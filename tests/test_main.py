"""The command `ecg-jax`: what it loads, what it says, and forms that it had before."""

import subprocess
import sys

import pytest
from support.finished_stores import finished_store, targets

from ecg_jax import __main__ as cli
from ecg_jax.moved import COMMANDS

HEAVY = ("jax", "flax", "optax", "orbax", "grain", "tensorflow", "tensorflow_datasets", "matplotlib")
LOADED = """
import sys
from ecg_jax.__main__ import main
try:
    status = main(sys.argv[1:])
except SystemExit as end:
    status = end.code
print("loaded", sorted({name.partition(".")[0] for name in sys.modules} & set(%r)), status)
"""


def loaded(*words):
    done = subprocess.run([sys.executable, "-c", LOADED % (HEAVY,), *words], capture_output=True, text=True)
    return done.stdout.splitlines()[-1], done


def test_help_and_status_load_nothing_heavy(tmp_path):
    store = finished_store(tmp_path, targets())
    for words in (["--help"], ["status", str(store.root)], ["status", "--help"], ["merge", "--help"]):
        line, done = loaded(*words)
        assert line == "loaded [] 0", done.stderr


@pytest.mark.parametrize("name", [member.name for members in cli.GROUPS.values() for member in members])
def test_every_command_is_there_and_its_help_names_it(name, capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main([name, "--help"])
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith(f"usage: ecg-jax {name} ")


def test_help_teaches_every_command(capsys):
    assert cli.main(["--help"]) == 0
    told = capsys.readouterr().out
    assert all(f"  {member.name} " in told for members in cli.GROUPS.values() for member in members)
    assert cli.main([]) == 2 and capsys.readouterr().err == told
    assert cli.main(["--version"]) == 0 and capsys.readouterr().out.startswith("ecg-jax 0.")


def test_a_command_that_is_none_is_told_the_nearest(capsys):
    assert cli.main(["biuld"]) == 2
    assert capsys.readouterr().err == "error: there is no command 'biuld': did you mean build?\n"
    assert cli.main(["xyzzy"]) == 2
    assert "it is one of download, build, report," in capsys.readouterr().err


@pytest.mark.parametrize(("name", "now"), COMMANDS.items())
def test_forms_of_before_say_what_to_type(name, now):
    name = name.removesuffix(".__main__")
    done = subprocess.run([sys.executable, "-m", name, "--help"], capture_output=True, text=True)
    assert done.returncode != 0 and f"{name} is a command now: {now}" in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("module", "named"),
    [
        ("ecg_jax", "ecg-jax COMMAND"),
        ("ecg_jax.data.real.build", "ecg-jax build"),
        ("ecg_jax.data.synthetic", "ecg-jax synthetic"),
        ("scaling_fits", "scaling-fits"),
    ],
)
def test_forms_whose_modules_are_there_go_on_working(module, named):
    done = subprocess.run([sys.executable, "-m", module, "--help"], capture_output=True, text=True)
    assert done.returncode == 0 and f"usage: {named}" in done.stdout
