from fractions import Fraction

import jax
import numpy as np
import pytest
from support.configs import make_config
from support.synthetic_pools import made_up_pool

from ecg_jax.data.mixture import Mixture, batch_ids, read_batch
from ecg_jax.data.synthetic.render.source import SyntheticSource
from ecg_jax.data.synthetic.render.tiers import Tier, recipe
from ecg_jax.distributed.mesh import place_pack
from ecg_jax.train.device_input import reader, resident, rows_in, words_of
from ecg_jax.train.input_pipeline import Placement, feed_of
from ecg_jax.train.training_data import TrainingData

POOL = made_up_pool(40, 3)


@pytest.fixture(scope="module")
def synthetic():
    return SyntheticSource(5, recipe(Tier.ANATOMY))


@pytest.mark.parametrize("fraction", [0, 0.5, 1])
def test_the_device_reads_what_the_host_reads(mesh, synthetic, fraction):
    part = POOL.first_patients(10, 4)
    mixture = Mixture(seed=2, batch_records=12, ratio=Fraction(fraction), real_records=(10,))
    pool, read = resident([POOL] if fraction > 0 else []), jax.jit(reader([synthetic if fraction < 1 else None]))
    for step in (0, 7):
        ids = batch_ids(mixture, step)
        words = place_pack(words_of(ids, [rows_in(POOL, part)])[None])
        found, expected = np.asarray(read(pool, words))[0], read_batch(ids, synthetic, [part])
        same_to_a_count(found, expected)
        np.testing.assert_array_equal(found[ids.source != 0], expected[ids.source != 0])


def same_to_a_count(found, expected):
    assert found.shape == expected.shape and found.dtype == np.int16
    difference = np.abs(found.astype(int) - expected)
    assert difference.max() <= 1 and np.mean(difference > 0) < 1e-3


def test_members_of_one_pack_draw_from_anything(mesh, synthetic):
    """Two tiers, a stored synthetic pool and pure real runs of nested pools, by one program."""
    other, stored = SyntheticSource(6, recipe(Tier.ECGSYN)), made_up_pool(30, 8, name="stored")
    sources = {"synthetic": synthetic, "other": other, "stored": stored}
    drawn = [("synthetic", 0.5, None), ("stored", 0.5, 10), ("other", 0, None), ("synthetic", 1, 20)]
    configs = [
        make_config(
            seed=k,
            batch_records=8,
            **{"data.synthetic_source": name, "data.real_fraction": fraction, "data.real_patients": patients}
            | ({"data.synthetic_records": 30} if name == "stored" else {}),
        )
        for k, (name, fraction, patients) in enumerate(drawn)
    ]
    data = TrainingData(POOL, sources)
    there, host = (feed_of(configs, data, placement) for placement in (Placement.DEVICE, Placement.HOST))
    assert [members for _, members in there.read.renders] == [(0,), (2,)]
    for words, expected in zip(there.batches(range(3, 5)), host.batches(range(3, 5)), strict=True):
        same_to_a_count(np.asarray(jax.jit(there.read)(there.resident, words)), np.asarray(expected))
    again = feed_of(configs, data, Placement.DEVICE)
    assert again.read == there.read and hash(again.read) == hash(there.read)  # one compiled program


def test_what_a_device_cannot_hold_is_refused(mesh):
    config = make_config(**{"data.synthetic_source": "sine"})
    with pytest.raises(ValueError, match="draws from a list: device placement renders a SyntheticSource and holds"):
        feed_of([config], TrainingData(POOL, {"sine": [1, 2]}), Placement.DEVICE)


def test_indices_of_64_bits_travel_whole():
    mixture = Mixture(seed=9, batch_records=4, ratio=Fraction(0), real_records=())
    ids = batch_ids(mixture, 3)
    words = words_of(ids, []).astype(np.uint64)
    np.testing.assert_array_equal((words[:, 1] << np.uint64(32)) + words[:, 2], ids.index.astype(np.uint64))
    assert ids.index.min() > 2**32


def test_a_pool_that_is_not_nested_is_refused():
    with pytest.raises(ValueError, match="5 of 5 records, such as other/"):
        rows_in(POOL, made_up_pool(5, name="other"))
