from fractions import Fraction

import numpy as np
import pytest
from support.synthetic_pools import made_up_pool

from ecg_jax.data import mixture as mixtures
from ecg_jax.data.mixture import SEED_STRIDE, SYNTHETIC, Mixture, batch_ids, read_batch, record_ids
from ecg_jax.train.read_ahead import read_ahead


def mixture(ratio, **changes) -> Mixture:
    settings = {"seed": 3, "batch_records": 8, "real_records": (10,)} | changes
    return Mixture(ratio=Fraction(ratio).limit_denominator(1000), **settings)


@pytest.mark.parametrize("ratio", [0, 0.1, 1 / 3, 0.5, 0.9, 1])
def test_every_prefix_holds_the_ratio_to_one_record(ratio):
    m = mixture(ratio)
    real = np.cumsum(record_ids(m, np.arange(1000)).source != SYNTHETIC)
    assert np.abs(real - np.arange(1, 1001) * float(m.ratio)).max() < 1


def test_batches_are_pieces_of_one_stream():
    m = mixture(0.5)
    whole = record_ids(m, np.arange(80))
    pieces = [batch_ids(m, step) for step in range(10)]
    for field in range(3):
        np.testing.assert_array_equal(np.concatenate([piece[field] for piece in pieces]), whole[field])


def test_an_epoch_is_a_permutation_and_epochs_differ():
    ids = record_ids(mixture(1), np.arange(30))
    epochs = [ids.index[ids.epoch == e] for e in range(3)]
    assert all(sorted(epoch) == list(range(10)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 3


def test_infinite_synthetic_counts_upwards_and_a_finite_pool_is_walked_whole():
    infinite = record_ids(mixture(0.5), np.arange(40))
    counted = infinite.index[infinite.source == SYNTHETIC]
    assert list(counted) == [3 * SEED_STRIDE + i for i in range(20)]  # seed 3 reads its own stretch
    finite = record_ids(mixture(0.5, synthetic_records=7), np.arange(28))
    walked = finite.index[finite.source == SYNTHETIC]
    assert sorted(walked[:7]) == sorted(walked[7:]) == list(range(7))


def test_several_real_sources_share_the_real_stream_exactly():
    weights = (Fraction(1, 6), Fraction(1, 2), Fraction(1, 3))
    m = mixture(0.75, real_records=(5, 50, 20), real_weights=weights)
    source = record_ids(m, np.arange(4800)).source
    assert [(source == code).sum() for code in range(4)] == [1200, 600, 1800, 1200]


def test_golden_ids():
    """Golden: the order of training data. If this fails, no stored run can be continued or compared."""
    ids = batch_ids(mixture(0.5), 1)
    assert ids.source.tolist() == [0, 1, 0, 1, 0, 1, 0, 1]
    offset = np.where(ids.source == SYNTHETIC, 3 * 2**40, 0)
    assert (ids.index - offset).tolist() == [4, 1, 5, 9, 6, 3, 7, 2]
    assert ids.epoch.tolist() == [0, 0, 0, 0, 0, 0, 0, 0]


def test_grain_carries_the_same_records_and_hosts_read_their_parts():
    synthetic, real = made_up_pool(400, 1), made_up_pool(10, 2)
    m = mixture(0.5, seed=0)
    expected = [read_batch(batch_ids(m, step), synthetic, [real]) for step in range(3, 9)]

    def carried(part=slice(None)):
        return list(read_ahead(lambda step: read_batch(batch_ids(m, step), synthetic, [real], part), range(3, 9)))

    np.testing.assert_array_equal(expected, carried())
    parts = [carried(slice(4 * h, 4 * h + 4)) for h in range(2)]
    for whole, *halves in zip(expected, *parts, strict=True):
        np.testing.assert_array_equal(whole, np.concatenate(halves))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ratio": Fraction(3, 2)}, "1.5 lies outside"),
        ({"ratio": Fraction(1), "real_records": ()}, "needs real records"),
        ({"seed": -1, "ratio": Fraction(0)}, "seed = -1 lies outside"),
        ({"ratio": Fraction(1), "real_weights": (Fraction(1), Fraction(1))}, "2 weights for 1 real sources"),
    ],
)
def test_impossible_mixtures_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        Mixture(**{"seed": 0, "batch_records": 8, "real_records": (10,)} | changes)


@pytest.fixture
def made(monkeypatch):
    """The permutations that were made, in a cache of their own."""
    keys, before = [], mixtures._permutation
    monkeypatch.setattr(mixtures, "_permutation", lambda *key: keys.append(key) or before(*key))
    monkeypatch.setattr(mixtures, "_permutations", mixtures._Permutations(2**20))
    return keys


@pytest.mark.parametrize("members", [1, 27, 200])
def test_each_permutation_that_a_pack_walks_is_made_once(made, members):
    pack = [mixture(0.5, seed=seed, real_records=(400, 300), synthetic_records=500) for seed in range(members)]
    for step in range(20):
        for m in pack:
            batch_ids(m, step)
    assert len(made) == len(set(made)) == 3 * members
    assert set(mixtures._permutations._arrays) == set(made)


def test_an_epoch_that_is_over_is_forgotten_and_the_next_one_is_not(made):
    pack = [mixture(1, seed=seed, real_records=(16,)) for seed in range(5)]
    for step in range(200):  # two steps an epoch
        for m in pack:
            batch_ids(m, step)
        assert len(mixtures._permutations._arrays) <= 2 * len(pack)
    assert len(made) == len(set(made)) == 5 * 100


def test_what_members_walk_alike_is_one_array_and_a_pack_that_is_done_is_forgotten(made):
    first = [mixture(ratio, real_records=(400,)) for ratio in (1, 0.5, 0.25)]
    for step in range(20):
        for m in first:
            batch_ids(m, step)
    assert made == [(3, 1, 0, 400)]
    other = [mixture(1, seed=seed, real_records=(8,)) for seed in range(2)]
    for step in range(50):
        for m in other:
            batch_ids(m, step)
    assert {key[0] for key in mixtures._permutations._arrays} == {0, 1}


def test_no_more_than_so_many_bytes_are_kept_and_the_ids_stay_the_same(made, monkeypatch):
    pack = [mixture(0.5, seed=seed, real_records=(300,)) for seed in range(10)]
    expected = [[batch_ids(m, step) for m in pack] for step in range(4)]
    small = mixtures._Permutations(4 * 300 * 2)  # of two bytes a record
    monkeypatch.setattr(mixtures, "_permutations", small)
    for step, batches in enumerate(expected):
        for m, ids in zip(pack, batches, strict=True):
            np.testing.assert_array_equal(batch_ids(m, step), ids)
            assert small.nbytes <= 4 * 300 * 2
    assert len(small._walks) == 4


@pytest.mark.parametrize(("records", "bytes_each"), [(200, 1), (60_000, 2), (70_000, 4)])
def test_a_permutation_takes_no_more_room_than_its_numbers(records, bytes_each):
    order = mixtures._permutation(3, 1, 0, records)
    assert order.nbytes == records * bytes_each and np.array_equal(np.sort(order), np.arange(records))
