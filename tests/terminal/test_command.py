"""How commands end: told to stop, without a reader, in error."""

import errno
import os
import signal
import subprocess
import sys
import time
import zipfile

import pytest
from safetensors import SafetensorError
from support.places import REPOSITORY
from support.terminal_process import python

from ecg_jax.terminal.command import StoppedError, ToldToStop, command

#: Works for a while, line by line, and leaves a file that says how far it came.
WORKER = """
import sys, time
from pathlib import Path
from ecg_jax.terminal.command import command

@command
def main(arguments=None):
    for line in range(int(sys.argv[2])):
        print("line", line)
        print("told", line, file=sys.stderr)
        time.sleep(float(sys.argv[3]))
    Path(sys.argv[1]).write_text("whole")

raise SystemExit(main())
"""


def start(path, lines: int, seconds: float, ignored: tuple[int, ...] = ()) -> subprocess.Popen:
    return subprocess.Popen(
        python("-c", WORKER, str(path), str(lines), str(seconds), ignored=ignored),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize(
    "error",
    [
        PermissionError(errno.EACCES, "Permission denied", "store/x"),
        OSError(errno.ENOSPC, "No space left on device"),
        ValueError("one\nline"),
        RuntimeError("the runtime gave up"),
        ModuleNotFoundError("No module named 'wandb'"),
        MemoryError(),
        EOFError(),
        SafetensorError("header too small"),
        zipfile.BadZipFile("Bad magic number"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_error_is_one_line_and_status_2(error, capsys):
    @command
    def main(arguments=None):
        raise error

    assert main([]) == 2
    told = capsys.readouterr().err
    assert told.startswith("error: ") and told.count("\n") == 1 and len(told) > len("error: \n")
    assert (str(error).replace("\n", " ") or type(error).__name__) in told


def test_a_fault_of_the_program_is_not_hidden():
    @command
    def main(arguments=None):
        raise AssertionError("never")

    with pytest.raises(AssertionError):
        main([])


@pytest.mark.parametrize(
    ("raised", "status"),
    [
        (KeyboardInterrupt(), 130),
        (ToldToStop(signal.SIGTERM), 143),
        (ToldToStop(signal.SIGHUP), 129),
        (StoppedError(signal.SIGINT), 130),
        (StoppedError(signal.SIGHUP), 129),
        (StoppedError(), 143),
    ],
)
def test_told_to_stop_it_says_so_in_one_line(raised, status, capsys):
    @command
    def main(arguments=None):
        raise raised

    assert main() == status
    told = capsys.readouterr().err
    assert told.startswith("stopped") and "the same command goes on" in told and told.count("\n") == 1


def test_the_status_is_what_main_returns_and_0_for_nothing():
    assert command(lambda arguments=None: None)() == 0
    assert command(lambda arguments=None: 1)() == 1


def test_handlers_are_given_back():
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    command(lambda arguments=None: None)()
    assert before == [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda number: number.name)
def test_a_signal_ends_a_process_without_a_traceback(number, tmp_path):
    process = start(tmp_path / "end", 10**6, 0.01)
    assert process.stdout.readline() == "line 0\n"  # at once, although it is a pipe
    process.send_signal(number)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert "Traceback" not in told and told.splitlines()[-1] == "stopped; the same command goes on"
    assert not (tmp_path / "end").exists()


def test_what_nohup_ignores_stays_ignored(tmp_path):
    process = start(tmp_path / "end", 20, 0.02, ignored=(signal.SIGHUP,))
    process.stdout.readline()
    process.send_signal(signal.SIGHUP)
    process.communicate(timeout=60)
    assert process.returncode == 0 and (tmp_path / "end").read_text() == "whole"


def test_a_closed_pipe_never_ends_a_command(tmp_path):
    process = start(tmp_path / "end", 2000, 0)
    process.stdout.readline()
    process.stdout.close()
    process.stderr.close()
    assert process.wait(timeout=60) == 0 and (tmp_path / "end").read_text() == "whole"


def test_a_terminal_that_is_closed_ends_it_told_and_no_print_fails(tmp_path):
    """The terminal's end sends SIGHUP, and every print after it fails: with SIGHUP ignored the command goes on."""
    ours, theirs = os.openpty()
    process = subprocess.Popen(
        python("-c", WORKER, str(tmp_path / "end"), "50", "0.02", ignored=(signal.SIGHUP,)),
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    assert b"line 0" in os.read(ours, 100)
    os.close(ours)
    assert process.wait(timeout=60) == 0 and (tmp_path / "end").read_text() == "whole"


def test_a_reader_who_leaves_at_once_costs_nothing(tmp_path):
    """Nor does rich, which would end the process itself."""
    script = (
        "import time\nfrom rich.console import Console\nfrom ecg_jax.terminal.command import command\n"
        "@command\ndef main(arguments=None):\n"
        f"    [Console().print(n) for n in range(5000)]\n    open({str(tmp_path / 'end')!r}, 'w').close()\n"
        "raise SystemExit(main())"
    )
    line = f'"{sys.executable}" -c "$SCRIPT" | head -1; exit ${{PIPESTATUS[0]}}'
    done = subprocess.run(["bash", "-c", line], env=os.environ | {"SCRIPT": script}, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "0\n", "") and (tmp_path / "end").exists()


WATCHER = """
import sys, time
from ecg_jax.terminal.command import command, has_reader

@command
def main(arguments=None):
    for line in range(3):
        print("line", line)
    while has_reader():
        time.sleep(0.02)

raise SystemExit(main())
"""


@pytest.mark.parametrize("lines", [0, 1, 3])
def test_who_only_shows_notices_that_nobody_reads(lines):
    process = subprocess.Popen(python("-c", WATCHER), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    for _ in range(lines):
        process.stdout.readline()
    process.stdout.close()
    assert process.wait(timeout=60) == 0 and process.stderr.read() == ""


@pytest.mark.parametrize("words", [["experiments.quickstart"], ["ecg_jax", "build"]], ids=lambda words: words[0])
def test_ctrl_c_while_a_command_is_loaded_is_one_line(words):
    process = subprocess.Popen(
        python("-X", "importtime", "-m", *words, "--help"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=REPOSITORY,
    )
    for line in process.stderr:  # tells of every module that is loaded
        if line.split("|")[-1].strip().startswith(("jax", "pandas", "numpy")):
            process.send_signal(signal.SIGINT)
            break
    printed, told = process.communicate(timeout=60)
    told = [line for line in told.splitlines() if not line.startswith("import time:")]
    assert (process.returncode, printed, told) == (130, "", ["stopped; the same command goes on"])


def test_every_entry_point_keeps_to_these_rules():
    """Whatever can be started is a `command`, but `scaling_fits`, which never imports the library and has its own."""
    root = REPOSITORY
    for path in [*root.glob("ecg_jax/**/*.py"), *root.glob("experiments/**/*.py")]:
        text = path.read_text()
        if 'if __name__ == "__main__"' in text:
            assert "@command\ndef main(" in text and "raise SystemExit(main())" in text, path


def test_a_stage_is_told_at_its_start_and_while_it_lasts(monkeypatch):
    import io

    from rich.console import Console

    from ecg_jax.terminal import stage

    monkeypatch.setattr(stage, "QUIET_SECONDS", 0.02)
    said = io.StringIO()
    with stage.Stage("reading PTB-XL", Console(file=said, highlight=False), "records") as advance:
        assert said.getvalue() == "reading PTB-XL …\n"
        advance(1000, 2000)
        until = time.monotonic() + 10
        while said.getvalue().count("\n") < 3 and time.monotonic() < until:
            time.sleep(0.01)
    lines = said.getvalue().splitlines()
    assert len(lines) >= 3 and all(line.startswith("reading PTB-XL: 1,000 of 2,000 records, 0 s") for line in lines[1:])
