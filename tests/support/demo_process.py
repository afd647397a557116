"""The quickstart, small, in a process of its own: on the stand-in target, so that it needs no recordings."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pandas as pd

from ecg_jax.store.tables import MACHINE_COLUMNS

#: `--fetch 0`: no test asks the network for anything.
ARGUMENTS = (
    *("--sizes", "10000", "16000", "--budgets", "256", "512", "--batch", "16"),
    *("--standin-patients", "40", "--fetch", "0"),
)


def environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name != "ECG_DATA_DIR"}


#: So short runs would keep their branch points in memory, and a CPU would pack nothing.
SAVING = """
from ecg_jax.study import run_study, trunk
trunk.SHORT_SECONDS, run_study.measured_size = 0, lambda config: 3
from experiments import quickstart
raise SystemExit(quickstart.main())
"""


def start(out: Path, *arguments: str, saving: bool = False) -> subprocess.Popen:
    """The quickstart, begun; with `saving`, three runs train together, and every pack writes checkpoints."""
    program = ["-c", SAVING] if saving else ["-m", "experiments.quickstart"]
    command = [sys.executable, *program, "--out", str(out), *(arguments or ARGUMENTS)]
    return subprocess.Popen(
        command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )


def finish(out: Path, *arguments: str, saving: bool = False) -> str:
    """Runs to the end and returns what was printed."""
    process = start(out, *arguments, saving=saving)
    printed, _ = process.communicate(timeout=600)
    assert process.returncode == 0, printed[-4000:]
    return printed


def kill_after(process: subprocess.Popen, seconds: float) -> bool:
    """Kills with SIGKILL after `seconds`, and says whether it was still running."""
    try:
        process.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        return True
    finally:
        process.stdout.close()
    return False


def results(out: Path) -> tuple[str, str, bytes]:
    """What must be the same: the table less the machine's columns, the learning curves, and the fits."""
    runs = pd.read_csv(out / "runs.csv", dtype=str).drop(columns=list(MACHINE_COLUMNS))
    return runs.to_csv(), (out / "curve.csv").read_text(), (out / "fits.json").read_bytes()
