"""How many runs train together, and which."""

import types

import jax
import numpy as np
import pytest
from support.configs import make_config
from support.synthetic_pools import made_up_pool

from ecg_jax.scaling.flops import training_bytes
from ecg_jax.study import packing


@pytest.fixture
def accelerator(monkeypatch):
    """A device of so much memory, on which a step of K members takes `fixed + K x each` seconds."""

    def make(memory: float, fixed: float, each: float):
        device = types.SimpleNamespace(memory_stats=lambda: {"bytes_limit": memory})
        monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
        monkeypatch.setattr(jax, "local_devices", lambda: [device])
        packing._measured_size.cache_clear()
        monkeypatch.setattr(packing, "seconds_per_member", lambda config, members: fixed / members + each)

    return make


def test_a_pack_grows_while_its_members_get_cheaper(accelerator):
    accelerator(memory=1e12, fixed=1.0, each=0.3)
    assert packing.measured_size(make_config()) == 16  # four times as many would save less than a sixth
    accelerator(memory=1e12, fixed=0.0, each=0.1)
    assert packing.measured_size(make_config()) == 1
    accelerator(memory=1e12, fixed=1.0, each=0.0)
    assert packing.measured_size(make_config()) == packing.MOST_MEMBERS


def test_a_pack_stays_within_the_memory(accelerator):
    config = make_config()
    accelerator(
        memory=5 * training_bytes(config.model, config.batch_records) / packing.MEMORY_SHARE, fixed=1.0, each=0.0
    )
    assert packing.measured_size(config) == 4


def test_a_cpu_packs_nothing():
    assert packing.measured_size(make_config()) == 1


def test_pools_of_patients_are_nested_and_shuffles_differ():
    pool = made_up_pool(60).take(np.repeat(np.arange(60), 2))
    few, more = (set(pool.first_patients(count, 3).patient_id) for count in (15, 47))
    assert len(few) == 15 and len(more) == 47 and few < more < set(pool.patient_id)
    assert len(pool.first_patients(15, 3)) == 30  # all records of a patient
    assert few != set(pool.first_patients(15, 4).patient_id)
    with pytest.raises(ValueError, match="asked for 61 patients of a pool of 60"):
        pool.first_patients(61, 3)
