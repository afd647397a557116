"""Several real sources in one run: one pool, exact shares, nested patients, by either placement."""

import dataclasses
import tracemalloc
from fractions import Fraction

import jax
import numpy as np
import pandas as pd
import pytest
from support.configs import make_config
from support.finished_stores import without_checksums
from support.run_packs import do
from support.synthetic_pools import made_up_pool

from ecg_jax.config import mixture_of
from ecg_jax.data import mixture
from ecg_jax.data.ecg import SIMULATED, join
from ecg_jax.data.storage.pool_file import load_pool, save_pool
from ecg_jax.data.synthetic.fitted.pool_identity import identify
from ecg_jax.evaluate import heldout as held
from ecg_jax.evaluate.response import response_of
from ecg_jax.outputs import row
from ecg_jax.store.layout import open_store
from ecg_jax.store.tables import IDENTITIES, export
from ecg_jax.study import sweep
from ecg_jax.train.input_pipeline import Placement, feed_of
from ecg_jax.train.training_data import TrainingData

A, B, C = made_up_pool(30, 1, name="a"), made_up_pool(12, 1, name="b"), made_up_pool(6, 3, name="c")
SYNTHETIC = {"b": made_up_pool(200, 9)}


def test_a_joined_pool_keeps_its_sources_and_their_patients_apart():
    pool = join([A, B, C])
    assert pool.source == "a+b+c" and [(part.source, len(part.rows)) for part in pool.parts] == [
        ("a", 30),
        ("b", 12),
        ("c", 6),
    ]
    assert len(np.unique(pool.patient_id)) == 48  # a and b number theirs alike
    assert np.array_equal(pool.patient_id[:30], A.patient_id) and (pool.patient_id[30:] < 0).all()
    assert np.array_equal(pool.ecg[pool.parts[1].rows], B.ecg)
    assert join([A]) is A and [part.source for part in A.parts] == ["a"]


def test_patients_are_nested_over_all_sources():
    pool = join([A, B, C])
    few, more = (set(pool.first_patients(count, 5).record_id) for count in (10, 25))
    assert few < more and len(few) == 10
    assert [part.source for part in pool.take(np.arange(30)).parts] == ["a"]  # a source without records is none


def test_counts_are_those_of_the_stream():
    for fraction in (0, 0.1, 0.5, 1):
        config = make_config(**{"data.real_fraction": fraction})
        for weights in (None, [Fraction(1, 2), Fraction(1, 3), Fraction(1, 6)]):
            m = mixture_of(config, join([A, B, C], weights))
            for records in (0, 1, 7, 200, 333):
                source = mixture.record_ids(m, np.arange(records)).source
                assert mixture.counts(m, records) == tuple((source == code).sum() for code in range(4))
    assert mixture.counts(mixture_of(make_config(), A), 100) == (50, 50)


def test_both_placements_read_the_same_records_of_every_source(mesh):
    configs = [
        make_config(seed=seed, batch_records=16, **{"data.real_patients": patients, "data.synthetic_records": 200})
        for seed, patients in ((0, None), (1, 20))
    ]
    data = TrainingData(join([A, B, C]), SYNTHETIC)
    host, device = (feed_of(configs, data, placement) for placement in (Placement.HOST, Placement.DEVICE))
    for records, words in zip(host.batches(range(4)), device.batches(range(4)), strict=True):
        found = np.asarray(jax.jit(device.read)(device.resident, words))
        assert np.array_equal(found, np.asarray(records))
    m = mixture_of(configs[0], data.pool(configs[0]))
    ids = mixture.batch_ids(m, 2)
    pools = (SYNTHETIC["b"], A, B, C)
    expected = np.stack([pools[code].ecg[index] for code, index in zip(ids.source, ids.index, strict=True)])
    assert set(ids.source) == {0, 1, 2, 3}
    assert np.array_equal(np.asarray(next(iter(host.batches(range(2, 3)))))[0], expected)


def test_a_study_tells_what_each_source_gave(tmp_path, mesh):
    pool = join([A, B], [Fraction(1, 4), Fraction(3, 4)])
    heldout = dataclasses.replace(made_up_pool(5, 5), patient_id=np.arange(5))  # numbers that b has too
    response = response_of(held.freeze(heldout, 50, masks=2), pool)
    config = make_config(
        study="s", response=response.heldout.identity, budget_records=512, **{"data.synthetic_records": 200}
    )
    store = open_store(tmp_path, "s", [config], {})
    do(store, [config], TrainingData(pool, SYNTHETIC), response)
    tables = export(store, tmp_path)
    given = pd.read_csv(tables["sources"], dtype=IDENTITIES)
    assert given.to_dict("records") == [
        {"run_id": config.run_id, "source": "a", "records": 30, "patients": 30, "seen": 64, "epochs": 64 / 30},
        {"run_id": config.run_id, "source": "b", "records": 12, "patients": 12, "seen": 192, "epochs": 16.0},
    ]
    runs = pd.read_csv(tables["runs"], dtype=IDENTITIES)
    assert runs.unique_real_patients.tolist() == [42] and runs.real_seen.tolist() == [256]
    (store.run(config) / "sources.csv").unlink()
    with pytest.raises(FileNotFoundError, match=r"sources\.csv is missing"):
        export(store, tmp_path)
    without_checksums(store)  # a store of an earlier version had none
    assert "sources" not in export(store, tmp_path)


def test_pure_synthetic_runs_see_none_of_them():
    table = row.sources(make_config(**{"data.real_fraction": 0.0}), join([A, B]))
    assert table.seen.tolist() == [0, 0] and table.epochs.tolist() == [0, 0]


def test_a_joined_pool_comes_back_from_its_file(tmp_path):
    for weights in (None, [Fraction(1, 3), Fraction(2, 3)]):
        pool = join([A, B], weights)
        save_pool(tmp_path / "pool.npz", pool)
        again = load_pool(tmp_path / "pool.npz")
        assert again.origins.names == ("a", "b") and again.origins.weights == pool.origins.weights
        assert np.array_equal(again.origins.of, pool.origins.of)


@pytest.mark.parametrize(
    ("pools", "weights", "match"),
    [
        ([A, A], None, "are not all different"),
        ([A, dataclasses.replace(B, sample_rate_hz=250)], None, "build one of them again at the other's rate"),
        ([A, dataclasses.replace(B, record_id=A.record_id[:12])], None, "12 record ids are in two of"),
        ([A, B], [Fraction(1)], "one positive number for each"),
        ([A, B], [Fraction(1), Fraction(0)], "one positive number for each"),
    ],
)
def test_what_cannot_be_joined_is_refused(pools, weights, match):
    with pytest.raises(ValueError, match=match):
        join(pools, weights)


def test_simulated_recordings_are_no_real_source():
    simulated = made_up_pool(4, 7, name=f"medalcare_xl{SIMULATED}")
    for pool in (simulated, join([A, simulated])):
        with pytest.raises(ValueError, match="medalcare_xl_simulated: simulated ECG is no real source"):
            TrainingData(pool, {})
    TrainingData(A, {"simulated": simulated})


def test_nested_pools_are_views_that_runs_share():
    whole = join([A, B, C])
    data = TrainingData(whole, SYNTHETIC)
    first, again, other = (
        data.pool(make_config(seed=seed, **{"data.real_patients": 10, "data.pool_shuffle": shuffle}))
        for seed, shuffle in ((0, 5), (1, 5), (0, 6))
    )
    assert first is again and first is not other
    rows = np.flatnonzero(np.isin(whole.record_id, first.record_id))
    for pool in (first, other):
        assert pool.ecg.whole is whole.ecg
    assert first.ecg.shape == (10, *whole.ecg.shape[1:]) and first.ecg.dtype == np.int16
    for index in (3, -1, slice(2, 5), np.array([4, 4, 0]), [1, 2]):
        np.testing.assert_array_equal(first.ecg[index], whole.ecg[rows][index])
    np.testing.assert_array_equal(first.ecg, whole.ecg[rows])
    few = first.first_patients(4, 1)
    assert few.ecg.whole is whole.ecg
    np.testing.assert_array_equal(few.ecg, whole.ecg[np.isin(whole.record_id, few.record_id)])
    copied = first.take(np.arange(3))
    assert isinstance(copied.ecg, np.ndarray) and np.array_equal(copied.ecg, whole.ecg[rows[:3]])
    with pytest.raises(IndexError, match="indexed by record alone"):
        first.ecg[0, 1]
    with pytest.raises(IndexError):
        first.ecg[10]
    assert identify(first) == identify(whole.take(rows))


@pytest.mark.parametrize("placement", Placement)
def test_the_members_of_a_pack_hold_no_copies_of_their_pools(mesh, placement):
    whole = made_up_pool(400, 5)
    data = TrainingData(whole, SYNTHETIC)
    configs = [
        make_config(seed=seed, batch_records=16, **{"data.real_patients": 300, "data.pool_shuffle": seed % 2})
        for seed in range(12)
    ]
    configs = [sweep.replace(c, {"data.synthetic_records": 200}) for c in configs]
    tracemalloc.start()
    try:
        feed = feed_of(configs, data, placement)
        held = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    on_device = whole.ecg.nbytes + SYNTHETIC["b"].ecg.nbytes  # put together once, to be sent
    assert held < 0.1 * whole.ecg.nbytes + (2 * on_device if placement is Placement.DEVICE else 0)
    assert len({id(pool) for _, pool, _ in feed.members}) == 2
    for step, batch in zip(range(2), feed.batches(range(2)), strict=True):
        assert np.shape(batch)[:2] == (12, 16), step
