"""One device and eight give the same run. In processes of their own: done wrong, this aborts the interpreter."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np

SCRIPT = """
import json, sys
import jax
jax.config.update("jax_num_cpu_devices", int(sys.argv[1]))
from pools import made_up_pool
from test_config import make_config
from ecg_jax import optim
from ecg_jax.data.mixture import batch_ids, batches
from ecg_jax.evaluate.heldout import freeze, model_errors
from ecg_jax.mesh import make_mesh
from ecg_jax.train import program, train
from ecg_jax.trunk import mixture_of

config = make_config(budget_records=2048)
real, losses = made_up_pool(20, 2), []
mixture = mixture_of(config, real)
with jax.set_mesh(make_mesh()):
    p = program(config)
    state = train(p, p.init(0), batches(mixture, made_up_pool(1000, 1), [real], range(50)),
        lambda step: optim.trunk_rate(config, step), on_step=lambda step, m: losses.append(m["train/loss"]))
    errors = model_errors(p.model, state.params, freeze(made_up_pool(5, 7), 50, masks=3), batch_records=3)
ids = [[field.tolist() for field in batch_ids(mixture, step)] for step in range(50)]
spread = len(jax.tree.leaves(state.params)[0].sharding.device_set)
print(json.dumps({"losses": losses, "ids": ids, "devices": spread, "errors": errors.tolist()}))
"""


def start(devices: int) -> subprocess.Popen:
    command = [sys.executable, "-c", SCRIPT, str(devices)]
    here = Path(__file__).parent
    return subprocess.Popen(command, cwd=here, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def result_of(process: subprocess.Popen) -> dict:
    try:
        printed, errors = process.communicate(timeout=300)
    finally:
        process.kill()
    assert process.returncode == 0, errors[-3000:]
    return json.loads(printed.splitlines()[-1])


def test_one_device_and_eight_agree():
    one, eight = (result_of(process) for process in [start(1), start(8)])
    assert (one["devices"], eight["devices"]) == (1, 8)
    assert one["ids"] == eight["ids"]
    assert len(one["losses"]) == 50
    np.testing.assert_allclose(eight["losses"], one["losses"], rtol=1e-5)
    np.testing.assert_allclose(eight["errors"], one["errors"], rtol=1e-4)
