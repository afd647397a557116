"""Studies on SLURM: the script, and a real cluster of one node that cancels, preempts and loses its daemon."""

import os
import subprocess
import sys
import time

import pandas as pd
import pytest
from support import slurm_cluster
from support.places import TESTS

from ecg_jax.store.tables import IDENTITIES, MACHINE_COLUMNS
from experiments import mixed_vs_pure
from experiments.launch import slurm

#: Eight runs of four trunks, slowed down, each writing checkpoints; what is done is told in a file.
STUDY = """
import os, sys, time
from pathlib import Path
from support.studies import DATA, RESPONSE
from support.configs import make_config
from ecg_jax.terminal.command import StoppedError
from ecg_jax.study import run_study, sweep, trunk
from ecg_jax.study.options import StudyOptions
from ecg_jax.store.layout import open_store
from ecg_jax.store.tables import export

trunk.SHORT_SECONDS, root, pause = 0, Path(sys.argv[1]), float(sys.argv[2])
base = make_config(study="s", response=RESPONSE.heldout.identity, **{"data.synthetic_records": 2000})
targets = sweep.grid(base, {"seed": range(4), "budget_records": [1024, 2048]})

class Heard(run_study.StudyProgress):
    def on_step(self, config, step, loss):
        time.sleep(pause)

    def on_run(self, config, record):
        with (root / "done.txt").open("a") as file:
            file.write(config.run_id + "\\n")

run_study.StudyProgress = Heard
store = open_store(root, "s", targets, {})
print("begun", flush=True)
try:
    options = StudyOptions(pack_size=1, wait=False)
    run_study.run_study(store, targets, DATA, {RESPONSE.heldout.identity: RESPONSE}, options=options)
except StoppedError:
    print("stopped", flush=True)
    sys.exit(143)
export(store, root)
"""


def script(*arguments) -> str:
    return slurm.script(slurm.parser().parse_args([*arguments, "--", "-m", "experiments.mixed_vs_pure", "--no-wait"]))


def test_the_script_saves_and_queues_itself_again(tmp_path):
    text = script(
        "--tasks", "3", "--time", "2:00:00", "--sbatch=--partition=gpu --gpus-per-node=1", "--python", "py thon"
    )
    for line in (
        "--array=0-2",
        "--requeue",
        "--signal=B:USR1@120",
        "--partition=gpu",
        "--gpus-per-node=1",
        "--time=2:00:00",
    ):
        assert f"#SBATCH {line}\n" in text
    assert "trap 'leave limit' USR1" in text and 'scontrol requeue "$task"' in text
    assert "'py thon' -m experiments.mixed_vs_pure --no-wait &" in text
    subprocess.run(["bash", "-n"], input=text, text=True, check=True)
    assert "srun --kill-on-bad-exit=1" in script("--nodes", "2")


@pytest.mark.parametrize(
    ("given", "lines"),
    [
        ("", []),
        ("-p gpu", ["-p gpu"]),
        ("-p gpu --gpus-per-node=1 -A us", ["-p gpu", "--gpus-per-node=1", "-A us"]),
        ('--comment="two words" -p gpu', ['--comment="two words"', "-p gpu"]),
        ("--comment='a -b \"c\"'", ["--comment='a -b \"c\"'"]),
        (r"--comment=a\ b --nice -5", [r"--comment=a\ b", "--nice -5"]),
        ("--nice -5 --mem 0", ["--nice -5", "--mem 0"]),
    ],
)
def test_options_reach_sbatch_as_they_are_given(given, lines):
    text = script(f"--sbatch={given}")
    told = [line.removeprefix("#SBATCH ") for line in text.splitlines() if line.startswith("#SBATCH ")]
    assert told[told.index("--output=out/slurm/%A_%a.log") + 1 :] == lines
    subprocess.run(["bash", "-n"], input=text, text=True, check=True)


def test_a_name_of_several_words_stays_one():
    assert "#SBATCH --job-name='two words'\n" in script("--name", "two words")


@pytest.mark.parametrize("option", ["--name", "--time", "--sbatch", "--logs"])
@pytest.mark.parametrize("text", ["a\ntouch PWN", "a\r\ntouch PWN", "a\n", "-p gpu\ntouch PWN"])
def test_a_line_break_is_refused_and_puts_nothing_into_the_script(option, text, capsys):
    given = f"{option}={text}"
    assert slurm.main([given, "--dry-run", "--", "-c", "1"]) == 2
    printed = capsys.readouterr()
    assert printed.out == "" and f"error: {option} " in printed.err and "has a line break" in printed.err
    lines = script(given.replace("=a", "=-a")).splitlines()  # of whoever asks nobody
    assert not any(line.startswith("touch") for line in lines)


@pytest.mark.parametrize(("given", "why"), [("gpu", "gpu is no option"), ('--comment="a', 'the quote " is not closed')])
def test_options_that_sbatch_would_misread_are_refused(given, why):
    with pytest.raises(ValueError, match=why):
        script(f"--sbatch={given}")


def test_bad_numbers_and_a_machine_without_slurm_are_refused(capsys, monkeypatch, tmp_path):
    assert slurm.main(["--tasks", "0", "--", "-c", "1"]) == 2
    assert "--tasks 0 --nodes 1: at least one of each is needed" in capsys.readouterr().err
    monkeypatch.setenv("PATH", str(tmp_path))
    assert slurm.main(["--", "-c", "1"]) == 2
    assert "sbatch is not on the PATH" in capsys.readouterr().err
    assert slurm.main(["--dry-run", "--", "-c", "1"]) == 0
    assert capsys.readouterr().out.startswith("#!/bin/bash\n")


def wait_for(condition, seconds: float, what: str) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, f"{what} did not come within {seconds} s"
        time.sleep(0.3)


@pytest.mark.long
def test_every_run_is_done_once_on_a_cluster_that_misbehaves(tmp_path, monkeypatch):
    if missing := slurm_cluster.lacking():
        pytest.skip(f"no SLURM here: {', '.join(missing)}")
    monkeypatch.setenv("PYTHONPATH", f"{TESTS.parent}:{TESTS}")
    (tmp_path / "local").mkdir()
    subprocess.run([sys.executable, "-c", STUDY, str(tmp_path / "local"), "0"], check=True)
    out, logs = tmp_path / "out", tmp_path / "logs"
    out.mkdir()
    (tmp_path / "study.py").write_text(STUDY)

    def submit(tasks: int) -> str:
        options = ["--tasks", str(tasks), "--logs", str(logs), "--", str(tmp_path / "study.py"), str(out), "0.25"]
        return slurm.submit(slurm.script(slurm.parser().parse_args(options)), logs).split()[-1]

    def text() -> str:
        return "".join(path.read_text() for path in logs.glob("*.log"))

    def is_done() -> bool:
        return len(list(out.glob("s/runs/*/record.json"))) == 8

    with slurm_cluster.Cluster(tmp_path / "slurm") as cluster:
        job = submit(2)
        wait_for(lambda: len(list(out.glob("s/packs/*/checkpoints/[0-9]*"))) >= 2, 180, "a checkpoint of both tasks")
        slurm_cluster.run("scancel", f"{job}_1")
        wait_for(lambda: "CANCELLED" in slurm_cluster.states(f"{job}_1"), 60, "the end of the cancelled task")
        other = slurm_cluster.run(
            "sbatch", "--partition=high", "--cpus-per-task=2", "--output=/dev/null", "--wrap=sleep 3"
        )
        wait_for(lambda: "COMPLETED" in slurm_cluster.states(other.split()[-1]), 120, "the job that preempts")
        wait_for(lambda: text().count("begun") >= 3, 120, "the preempted task, queued again")
        time.sleep(5)
        cluster.kill_node()
        time.sleep(25)  # the controller gives the node up, its task goes on writing
        cluster.start_node()
        submit(1)
        wait_for(is_done, 400, "the last record")
        wait_for(lambda: not slurm_cluster.run("squeue", "-h"), 120, "an empty queue")
    assert "told to go: saving" in text() and "stopped" in text()
    done = (out / "done.txt").read_text().split()
    assert len(done) == len(set(done)) == 8, text()
    for name in ("runs", "patients", "curve"):
        local, ours = (pd.read_csv(tmp_path / where / f"{name}.csv", dtype=IDENTITIES) for where in ("local", "out"))
        varying = [column for column in MACHINE_COLUMNS if column in local]
        pd.testing.assert_frame_equal(ours.drop(columns=varying), local.drop(columns=varying), check_exact=True)
    assert os.environ.get("SLURM_CONF") is None


def test_a_task_past_the_study_is_refused_before_data_is_read(monkeypatch, capsys, tmp_path):
    # Three sizes at three fractions, each one trunk.
    command = ["--blocks", "1", "--out", str(tmp_path / "out"), "--data-files", str(tmp_path / "nowhere")]
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "9")
    assert mixed_vs_pure.main(command) == 2
    told = capsys.readouterr().err
    assert "SLURM_ARRAY_TASK_ID is 9: the study has 9 trunks to train, so at most tasks 0 to 8 find work" in told
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "8")
    assert mixed_vs_pure.main(command) == 2
    assert "holds no exported data" in capsys.readouterr().err
