"""Several processes give the runs that one gives. On loopback; each in an interpreter of its own."""

import json
import re
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from support.places import REPOSITORY, TESTS

from ecg_jax.distributed.launch import Cluster, Launch, launch_of
from ecg_jax.distributed.rendezvous import ProcessesError, roll_call
from ecg_jax.store.tables import IDENTITIES, MACHINE_COLUMNS
from experiments.launch import local

SCRIPT = """
import json, sys
from ecg_jax.distributed import launch
launch.join()
import jax
import numpy as np
from support.synthetic_pools import made_up_pool
from support.configs import make_config
from support.run_packs import trained
from ecg_jax.train.checkpoint import Checkpoints, abstract
from ecg_jax.data.mixture import batch_ids
from ecg_jax.evaluate.heldout import freeze, model_errors
from ecg_jax.config import mixture_of
from ecg_jax.train.training_data import TrainingData
from ecg_jax.distributed.mesh import host_slice, make_mesh
from ecg_jax.train.step import member, program

config = make_config(budget_records=2048, **{"data.synthetic_records": 1000})
data = TrainingData(made_up_pool(20, 2), {"b": made_up_pool(1000, 1)})
mixture = mixture_of(config, data.real)
with jax.set_mesh(make_mesh()), Checkpoints(sys.argv[1]) as checkpoints:
    losses = np.empty((0, 1))
    if checkpoints.steps:
        state = checkpoints.restore(abstract(program(config).init(np.zeros(1))))
    else:
        _, state, losses = trained([config], data, range(50))
        checkpoints.save(50, state)
        checkpoints.wait()
    _, state, more = trained([config], data, range(50, 56), state=state)
    heldout = freeze(made_up_pool(5, 7), 50, masks=3)
    errors = model_errors(program(config).model, member(state.params, 0), heldout, batch_records=4)
part = host_slice(config.batch_records)
ids = [batch_ids(mixture, step).index[part].tolist() for step in range(50)]
found = {"losses": losses, "more": more, "errors": errors}
print("result " + json.dumps({name: array.tolist() for name, array in found.items()} | {"ids": ids}))
"""


def output_of(started) -> list[str]:
    """What each printed; all must end well, and none outlives the test."""
    try:
        printed = [process.communicate(timeout=200)[0] for process in started]
    finally:
        for process in started:
            process.kill()
    assert [process.returncode for process in started] == [0] * len(started), printed[0][-3000:]
    return printed


def results(count: int, folder: Path) -> list[dict]:
    """What each of so many processes prints."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", f"{REPOSITORY}:{TESTS}")
        started = local.start(["-c", SCRIPT, str(folder)], count)
    printed = output_of(started)
    lines = [next(line for line in text.splitlines() if line.startswith("result ")) for text in printed]
    return [json.loads(line.removeprefix("result ")) for line in lines]


@pytest.mark.parametrize("count", [2, pytest.param(4, marks=pytest.mark.long)])
def test_several_processes_agree_with_one(count, tmp_path):
    (one,), several = results(1, tmp_path / "one"), results(count, tmp_path / "several")
    joined = [[index for part in several for index in part["ids"][step]] for step in range(50)]
    assert joined == one["ids"]
    for part in several:
        np.testing.assert_allclose(part["losses"], one["losses"], rtol=1e-5)
        np.testing.assert_allclose(part["errors"], one["errors"], rtol=1e-4)
    (restored,) = results(1, tmp_path / "several")  # their checkpoint, by one process
    np.testing.assert_allclose(restored["more"], several[0]["more"], rtol=1e-5)


@pytest.mark.parametrize(
    ("environment", "launch"),
    [
        ({}, Launch(Cluster.SINGLE)),
        (
            {"ECG_COORDINATOR": "a:1", "ECG_PROCESSES": "4", "ECG_PROCESS": "3"},
            Launch(Cluster.EXPLICIT, "a:1", 4, 3),
        ),
        (
            {"ECG_COORDINATOR": "a:1", "ECG_PROCESSES": "4", "JOB_COMPLETION_INDEX": "2"},
            Launch(Cluster.EXPLICIT, "a:1", 4, 2),
        ),
        ({"SLURM_STEP_NUM_TASKS": "2", "SLURM_PROCID": "1"}, Launch(Cluster.SLURM, processes=2, process=1)),
        ({"SLURM_JOB_ID": "7", "SLURM_STEP_NUM_TASKS": "1", "SLURM_PROCID": "0"}, Launch(Cluster.SINGLE)),
        ({"ECG_CLUSTER": "tpu"}, Launch(Cluster.TPU)),
        ({"ECG_CLUSTER": "single", "SLURM_STEP_NUM_TASKS": "2", "SLURM_PROCID": "1"}, Launch(Cluster.SINGLE)),
    ],
)
def test_the_environment_says_what_it_is(environment, launch):
    assert launch_of(environment) == launch


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"ECG_COORDINATOR": "a:1"}, "ECG_PROCESSES is None: it must be a whole number"),
        ({"ECG_COORDINATOR": "a:1", "ECG_PROCESSES": "2"}, "ECG_PROCESS is None"),
        ({"ECG_COORDINATOR": "a:1", "ECG_PROCESSES": "2", "ECG_PROCESS": "2"}, "ECG_PROCESS = 2 of ECG_PROCESSES = 2"),
        ({"ECG_COORDINATOR": "a", "ECG_PROCESSES": "2", "ECG_PROCESS": "1"}, "must be host:port"),
        ({"ECG_CLUSTER": "explicit"}, "ECG_COORDINATOR is not set"),
        ({"ECG_CLUSTER": "slurm"}, "SLURM_PROCID is not set: start the tasks with srun"),
        ({"ECG_CLUSTER": "magic"}, "ECG_CLUSTER is 'magic': it is one of single, explicit"),
    ],
)
def test_an_environment_that_says_half_is_refused(environment, message):
    with pytest.raises(ValueError, match=message):
        launch_of(environment)


def called(*calls, seconds=1.0) -> list[str]:
    """What each of these processes hears: "" for go. `calls` are numbers of processes, and the process's own."""
    address = f"127.0.0.1:{local.free_port()}"

    def call(numbers) -> str:
        try:
            roll_call(address, *numbers, seconds)
        except ProcessesError as error:
            return str(error)
        return ""

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(call, calls))


def test_the_roll_is_called():
    assert called((3, 0), (3, 1), (3, 2)) == [""] * 3
    (alone,) = called((2, 1), seconds=0.3)
    assert re.match(r"the coordinator 127.0.0.1:\d+ was not reached within 0.3 s \(.*\): is process 0 running", alone)
    for heard in called((3, 0), (3, 1)):
        assert heard == "process 2 of 3 did not come within 1 s: was it started?"
    for heard in called((3, 0), (3, 1), (3, 1)):
        assert "two processes call themselves 1, on " in heard
    for heard in called((3, 0), (2, 1)):
        assert "process 1 on " in heard and "was told of 2 processes, process 0 on " in heard


AGREE = """
import sys
from ecg_jax.distributed import agreement, launch
from ecg_jax.distributed.rendezvous import ProcessesError
launch.join()
import jax
from ecg_jax.distributed.mesh import make_mesh
with jax.set_mesh(make_mesh()):
    assert agreement.broadcast_from_primary({"a": [1, jax.process_index()]}) == {"a": [1, 0]}
    agreement.assert_same_on_all("code", "same")
    try:
        agreement.assert_same_on_all("data", f"number {jax.process_index()}")
    except ProcessesError as error:
        print(f"refused: {error}")
"""


def test_processes_agree_or_are_refused():
    for printed in output_of(local.start(["-c", AGREE], 2)):
        assert "refused: the processes do not have the same data: " in printed
        assert "(process 0): number 0; " in printed and "(process 1): number 1" in printed


STUDY = """
import sys
from pathlib import Path
from ecg_jax.distributed import launch
launch.join()
from support.studies import DATA, TARGETS, RESPONSE
from ecg_jax.study import trunk
from ecg_jax.distributed.agreement import broadcast_from_primary, is_primary
from ecg_jax.store.layout import Store, open_store
from ecg_jax.store.tables import export
from ecg_jax.study.run_study import run_study

trunk.SHORT_SECONDS = 0
root = Path(sys.argv[1])
if is_primary():
    open_store(root, "s", TARGETS, {})
broadcast_from_primary(None)
store = Store(root, "s")
keep = lambda config: config.budget_records == 512
assert run_study(store, TARGETS, DATA, {RESPONSE.heldout.identity: RESPONSE}, keep=keep) == 0
if is_primary():
    export(store, root)
"""


def study(folder: Path, count: int) -> list:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", f"{REPOSITORY}:{TESTS}")
        return local.start(["-c", STUDY, str(folder)], count)


@pytest.mark.parametrize("victim", [1, pytest.param(0, marks=pytest.mark.long, id="the coordinator")])
def test_a_study_of_two_processes_is_that_of_one_though_one_is_killed(tmp_path, victim):
    output_of(study(tmp_path / "one", 1))
    started = study(tmp_path / "two", 2)
    while not list((tmp_path / "two").glob("s/packs/*/checkpoints/[0-9]*")):
        assert [process.poll() for process in started] == [None, None], started[0].communicate()[0][-2000:]
        time.sleep(0.05)
    started[victim].kill()
    status, why = local.wait(started)
    # The others may notice before the launcher looks.
    assert status == 137 and f"process {victim} of 2 was killed by SIGKILL" in why
    output_of(study(tmp_path / "two", 2))
    for name in ("runs", "patients", "curve"):
        one, two = (pd.read_csv(tmp_path / count / f"{name}.csv", dtype=IDENTITIES) for count in ("one", "two"))
        varying = [column for column in MACHINE_COLUMNS if column in one]
        pd.testing.assert_frame_equal(one.drop(columns=varying), two.drop(columns=varying), rtol=2e-3)
    assert len(list((tmp_path / "two").glob("s/runs/*/encoder/*.safetensors"))) == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda number: number.name)
def test_the_launcher_hands_a_signal_on_once_and_waits_until_all_have_saved(number):
    script = (
        "import signal, time\ntold = []\n"
        f"signal.signal({int(number)}, lambda *_: told.append(1))\n"
        "print('ready', flush=True)\n"
        "while not told: time.sleep(0.01)\n"
        "time.sleep(0.5)\n"
        "print('saved', len(told))\nraise SystemExit(130)"
    )
    launcher = subprocess.Popen(
        [sys.executable, "-m", "experiments.launch.local", "--processes", "2", "--", "-c", script],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    ready = [launcher.stdout.readline(), launcher.stdout.readline()]
    assert sorted(ready) == ["[0] ready\n", "[1] ready\n"]
    launcher.send_signal(number)
    out, err = launcher.communicate(timeout=60)
    assert launcher.returncode == 128 + number
    assert sorted(out.splitlines()) == ["[0] saved 1", "[1] saved 1"]
    assert err == "stopped; the same command goes on\n"


def test_the_launcher_says_who_ended_it(capsys):
    script = "import os, time; time.sleep(60) if os.environ['ECG_PROCESS'] == '0' else os.kill(os.getpid(), 9)"
    began = time.monotonic()
    assert local.main(["--processes", "2", "--", "-c", script]) == 128 + 9
    assert time.monotonic() - began < 20
    assert "error: process 1 of 2 was killed by SIGKILL; the others were stopped" in capsys.readouterr().err
    assert local.main(["--processes", "2", "--", "-c", "print('hello')"]) == 0
    assert sorted(capsys.readouterr().out.split("\n")[:2]) == ["[0] hello", "[1] hello"]
