from fractions import Fraction

import jax
import numpy as np
import pytest
from pools import made_up_pool

from ecg_jax.data.device import resident, rows_in, words_of
from ecg_jax.data.mixture import Mixture, batch_ids, read_batch
from ecg_jax.data.synthetic.source import SyntheticSource
from ecg_jax.data.synthetic.tiers import Tier, recipe
from ecg_jax.mesh import place_pack

POOL = made_up_pool(40, 3)


@pytest.fixture(scope="module")
def synthetic():
    return SyntheticSource(5, recipe(Tier.ANATOMY))


@pytest.mark.parametrize("fraction", [0, 0.5, 1])
def test_the_device_reads_what_the_host_reads(mesh, synthetic, fraction):
    part = POOL.first_patients(10, 4)
    mixture = Mixture(seed=2, batch_records=12, ratio=Fraction(fraction), real_records=(10,))
    there = resident(POOL if fraction > 0 else None, synthetic if fraction < 1 else None)
    read = jax.jit(there.read)
    for step in (0, 7):
        ids = batch_ids(mixture, step)
        words = place_pack(words_of(ids, rows_in(POOL, part))[None])
        found, expected = np.asarray(read(there.pool, words))[0], read_batch(ids, synthetic, [part])
        assert found.shape == expected.shape and found.dtype == np.int16
        difference = np.abs(found.astype(int) - expected)
        assert difference.max() <= 1 and np.mean(difference > 0) < 1e-3
        assert not difference[ids.source != 0].any()


def test_indices_of_64_bits_travel_whole():
    mixture = Mixture(seed=9, batch_records=4, ratio=Fraction(0), real_records=())
    ids = batch_ids(mixture, 3)
    words = words_of(ids, np.empty(0, int)).astype(np.uint64)
    np.testing.assert_array_equal((words[:, 1] << np.uint64(32)) + words[:, 2], ids.index.astype(np.uint64))
    assert ids.index.min() > 2**32


def test_a_pool_that_is_not_nested_is_refused():
    with pytest.raises(ValueError, match="5 of 5 records, such as other/"):
        rows_in(POOL, made_up_pool(5, name="other"))
