"""One device and eight give the same run. In processes of their own: done wrong, this aborts the interpreter."""

import json
import subprocess
import sys
import types

import numpy as np
import pytest
from support.places import TESTS

from ecg_jax.distributed.mesh import make_mesh

SCRIPT = """
import json, sys
import jax
jax.config.update("jax_num_cpu_devices", int(sys.argv[1]))
from support.synthetic_pools import made_up_pool
from support.configs import make_config
from support.run_packs import trained
from ecg_jax.data.mixture import batch_ids
from ecg_jax.evaluate.heldout import freeze, model_errors
from ecg_jax.config import mixture_of
from ecg_jax.train.training_data import TrainingData
from ecg_jax.distributed.mesh import make_mesh
from ecg_jax.train.step import member

base = {"budget_records": 2048, "data.synthetic_records": 1000}
configs = [make_config(**base, seed=seed) for seed in range(int(sys.argv[3]))]
data = TrainingData(made_up_pool(20, 2), {"b": made_up_pool(1000, 1)})
mixture = mixture_of(configs[0], data.real)
with jax.set_mesh(make_mesh(members=int(sys.argv[2]))):
    p, state, losses = trained(configs, data, range(50))
    heldout = freeze(made_up_pool(5, 7), 50, masks=3)
    errors = model_errors(p.model, member(state.params, 0), heldout, batch_records=3)
losses = losses[:, 0].tolist()
ids = [[field.tolist() for field in batch_ids(mixture, step)] for step in range(50)]
spread = len(jax.tree.leaves(state.params)[0].sharding.device_set)
print(json.dumps({"losses": losses, "ids": ids, "devices": spread, "errors": errors.tolist()}))
"""


def start(devices: int, rows: int = 1, members: int = 1) -> subprocess.Popen:
    """The script on so many devices, in so many rows of the mesh, with a pack of so many members."""
    command = [sys.executable, "-c", SCRIPT, *map(str, (devices, rows, members))]
    here = TESTS
    return subprocess.Popen(command, cwd=here, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def result_of(process: subprocess.Popen) -> dict:
    try:
        printed, errors = process.communicate(timeout=300)
    finally:
        process.kill()
    assert process.returncode == 0, errors[-3000:]
    return json.loads(printed.splitlines()[-1])


def test_one_device_and_eight_agree():
    one, eight, packed = (result_of(process) for process in [start(1), start(8), start(4, rows=2, members=2)])
    assert (one["devices"], eight["devices"]) == (1, 8)
    assert one["ids"] == eight["ids"]
    assert len(one["losses"]) == 50
    np.testing.assert_allclose(eight["losses"], one["losses"], rtol=1e-5)
    np.testing.assert_allclose(packed["losses"], one["losses"], rtol=1e-5)
    np.testing.assert_allclose(eight["errors"], one["errors"], rtol=1e-4)


RESTORED = """
import sys
import jax
jax.config.update("jax_num_cpu_devices", 4)
import numpy as np
from support.synthetic_pools import made_up_pool
from support.configs import make_config
from support.run_packs import trained
from ecg_jax.train.checkpoint import Checkpoints, abstract
from ecg_jax.train.training_data import TrainingData
from ecg_jax.distributed.mesh import make_mesh
from ecg_jax.train.step import program

config = make_config(budget_records=2048, **{"data.synthetic_records": 1000})
data = TrainingData(made_up_pool(20, 2), {"b": made_up_pool(1000, 1)})
with jax.set_mesh(make_mesh()), Checkpoints(sys.argv[1]) as checkpoints:
    _, state, _ = trained([config], data, range(8))
    checkpoints.save(8, state)
    _, _, four = trained([config], data, range(8, 16), state=state)
with jax.set_mesh(make_mesh(jax.devices()[:1])), Checkpoints(sys.argv[1]) as checkpoints:
    restored = checkpoints.restore(abstract(program(config).init(np.zeros(1))))
    assert {len(leaf.sharding.device_set) for leaf in jax.tree.leaves(restored)} == {1}
    _, _, one = trained([config], data, range(8, 16), state=restored)
np.testing.assert_allclose(one, four, rtol=1e-5)
"""


def test_a_checkpoint_of_four_devices_is_restored_onto_one(tmp_path):
    done = subprocess.run([sys.executable, "-c", RESTORED, str(tmp_path)], cwd=TESTS, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]


STUDY = """
import sys
from pathlib import Path
import jax
jax.config.update("jax_num_cpu_devices", 2)
from support.studies import DATA, PACKED, RESPONSE
from ecg_jax.store.layout import open_store
from ecg_jax.store.tables import export
from ecg_jax.study.run_study import run_study
from ecg_jax.study.options import StudyOptions

store = open_store(Path(sys.argv[1]), "s", PACKED, {})
assert run_study(store, PACKED, DATA, {RESPONSE.heldout.identity: RESPONSE}, options=StudyOptions(pack_size=2)) == 0
rows = [store.record(run) for run in PACKED]
assert all(row["loss"] < 1 and 0 < row["utilisation"] < 1.5 for row in rows), rows
"""


def test_a_study_uses_all_devices(tmp_path):
    done = subprocess.run([sys.executable, "-c", STUDY, str(tmp_path)], cwd=TESTS, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]


def test_a_row_of_a_mesh_that_slices_cannot_share_is_refused():
    devices = [types.SimpleNamespace(slice_index=number // 2) for number in range(4)]
    with pytest.raises(ValueError, match="1 devices of a mesh's row do not divide by 2 slices: pack fewer members"):
        make_mesh(devices, members=4)
