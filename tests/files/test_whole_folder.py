"""What is made once is made by one process: the others wait, say so, and find it; a killed one is followed."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support.places import REPOSITORY
from support.ptbxl_layout import write_ptbxl
from support.terminal_process import python

from ecg_jax.files import whole_folder as module
from ecg_jax.files.lease import LostOwnershipError
from ecg_jax.files.whole_folder import making, whole_folder

#: Fills a folder slowly, unless another process has made it by then.
MAKER = """
import os, sys, time
from pathlib import Path
from ecg_jax.files.whole_folder import whole_folder

folder, seconds = Path(sys.argv[1]), float(sys.argv[2])
try:
    with whole_folder(folder) as building:
        print("making", flush=True)
        for part in range(10):
            (building / f"{part}.txt").write_text(str(os.getpid()))
            time.sleep(seconds / 10)
    print("made", flush=True)
except FileExistsError:
    print("found", flush=True)
assert len(list(folder.iterdir())) == 10
"""
#: What a study reads of PTB-XL, prepared slowly: it is told when that begins.
STUDY = """
import sys, time
from pathlib import Path
from ecg_jax.data.real.datasets import prepare
from experiments.protocol.data import load_real

def slowly(*given, read=prepare._read_slices):
    print("preparing", flush=True)
    time.sleep(float(sys.argv[3]))
    yield from read(*given)

prepare._read_slices = slowly
data = load_real(Path(sys.argv[1]), Path(sys.argv[2]))
print(data.identity, len(data.training), len(data.heldout.pool), flush=True)
"""
#: A build of a set whose recordings take for ever to read; what its workers are is told in a folder.
SLOW_BUILD = """
import os, sys, time
from pathlib import Path
from rich.console import Console
from ecg_jax.terminal.command import command
from ecg_jax.data.real.build import build_set
from ecg_jax.data.real.datasets.catalogue import Catalogue

def read(recordings, *, on_bad, progress, on_remark):
    Path(sys.argv[1], f"{os.getpid()}.pid").write_text("")
    time.sleep(600)

@command
def main(arguments=None):
    folder = Path(sys.argv[1])
    made = Catalogue(recordings=list(range(3000)), read=read, made_from={"a": "1"})
    build_set(folder / "set-100hz", made, workers=2, console=Console())

if __name__ == "__main__":
    raise SystemExit(main())
"""


def start(folder: Path, seconds: float) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", MAKER, str(folder), str(seconds)],
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def alone(folder: Path) -> bool:
    return [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_of_several_processes_one_makes_it_and_the_others_wait_and_say_so(tmp_path):
    folder = tmp_path / "set"
    first = start(folder, 2)
    assert first.stdout.readline() == "making\n"
    others = [start(folder, 0) for _ in range(2)]
    told = [process.communicate(timeout=60) for process in others]
    assert first.communicate(timeout=60) == ("made\n", "") and first.returncode == 0
    for process, (printed, said) in zip(others, told, strict=True):
        assert process.returncode == 0 and printed == "found\n"
        assert f"waiting for {folder}: process {first.pid} on " in said and said.count("\n") == 1
    assert alone(folder) and {path.read_text() for path in folder.iterdir()} == {str(first.pid)}


def test_a_killed_maker_is_followed_and_leaves_nothing(tmp_path):
    folder = tmp_path / "set"
    first = start(folder, 600)
    assert first.stdout.readline() == "making\n"
    second = start(folder, 0)
    assert "waiting for" in second.stderr.readline()
    first.kill()
    first.communicate()
    assert second.communicate(timeout=60)[0] == "making\nmade\n" and second.returncode == 0
    assert alone(folder)


def test_many_at_once_make_it_once(tmp_path):
    folder = tmp_path / "set"
    processes = [start(folder, 0.1) for _ in range(6)]
    printed = [process.communicate(timeout=60)[0] for process in processes]
    assert sorted(printed) == ["found\n"] * 5 + ["making\nmade\n"] and alone(folder)


def test_one_that_fails_leaves_nothing_and_the_next_may_try(tmp_path):
    folder = tmp_path / "set"
    with pytest.raises(ValueError, match="no"), whole_folder(folder) as building:
        (building / "part").write_text("")
        raise ValueError("no")
    assert list(tmp_path.iterdir()) == []
    with whole_folder(folder) as building:
        assert list(building.iterdir()) == []
    assert alone(folder)


def test_what_is_there_is_replaced_only_where_that_is_meant(tmp_path):
    folder = tmp_path / "encoder"
    for text in ("a", "b"):
        with whole_folder(folder, replaces=True) as building:
            (building / "x").write_text(text)
    assert (folder / "x").read_text() == "b"
    with pytest.raises(FileExistsError, match="is there"), whole_folder(folder):
        raise AssertionError("never entered")
    assert (folder / "x").read_text() == "b" and alone(folder)


def test_one_that_slept_and_was_taken_over_writes_nothing(tmp_path):
    folder = tmp_path / "set"
    with pytest.raises(LostOwnershipError), whole_folder(folder) as building:
        owner = next(tmp_path.glob("*/owner.json"))
        os.utime(owner, (0, owner.stat().st_mtime - 1000))
        with whole_folder(folder) as heirs:
            (heirs / "x").write_text("the heir's")
        (building / "x").write_text("too late")
    assert (folder / "x").read_text() == "the heir's"


def test_who_waits_says_so_again_and_again(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "TELL_SECONDS", 0.0)
    monkeypatch.setattr(module, "LOOK_SECONDS", 0.01)
    said = []

    def say(line):
        said.append(line)
        if len(said) == 3:
            raise KeyboardInterrupt

    with making(tmp_path / "x"), pytest.raises(KeyboardInterrupt), making(tmp_path / "x", say):
        raise AssertionError("never entered")
    assert len(said) == 3 and not list(tmp_path.iterdir())


def test_two_studies_begun_together_on_a_new_folder_prepare_its_data_once(tmp_path):
    write_ptbxl(tmp_path / "published", 12)
    cache = tmp_path / "out" / "data"

    def begin(seconds: float) -> subprocess.Popen:
        return subprocess.Popen(
            [sys.executable, "-c", STUDY, str(tmp_path / "published"), str(cache), str(seconds)],
            env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    first, second = begin(1), begin(1)
    (one, said), (two, told) = (process.communicate(timeout=200) for process in (first, second))
    assert first.returncode == second.returncode == 0, said + told
    assert (one + two).count("preparing") == 1 and one.splitlines()[-1] == two.splitlines()[-1]
    assert (said + told).count("waiting for ") == 1 and "Traceback" not in said + told
    assert [path.name for path in cache.iterdir()] == ["ptbxl-100hz"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL], ids=lambda number: number.name)
def test_the_workers_of_a_build_end_with_it(number, tmp_path):
    script = tmp_path / "slow_build.py"
    script.write_text(SLOW_BUILD)
    process = subprocess.Popen(
        python(str(script), str(tmp_path)),
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    until = time.monotonic() + 120
    while len(workers := [int(path.stem) for path in tmp_path.glob("*.pid")]) < 2 and time.monotonic() < until:
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    process.send_signal(number)
    _, told = process.communicate(timeout=60)
    if number == signal.SIGKILL:
        assert process.returncode == -9
    else:
        assert process.returncode == 128 + number and told == "stopped; the same command goes on\n"
    until = time.monotonic() + 20
    while any(is_alive(worker) for worker in workers) and time.monotonic() < until:
        time.sleep(0.05)
    assert not any(is_alive(worker) for worker in workers)


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
