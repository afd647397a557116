import numpy as np
import pytest
from support.synthetic_pools import made_up_pool

from ecg_jax.data.ecg import INDEPENDENT_LEAD_INDICES, normalise
from ecg_jax.evaluate import baselines
from ecg_jax.evaluate import heldout as held


def test_component_residual_falls_to_nothing():
    heldout = held.freeze(made_up_pool(12), 50, masks=3)
    residual = baselines.component_residual(heldout, made_up_pool(40, seed=1), 20, [1, 8, 160, 999])
    assert residual[1] > residual[8] > residual[160] == residual[999] == pytest.approx(0, abs=1e-6)
    target = normalise(heldout.pool.ecg)[:, :, list(INDEPENDENT_LEAD_INDICES)]
    assert residual[1] < np.square(target).mean()
