"""What keeps training apart from evaluation: no held-out patient or recording is trained on, whatever it is called."""

import dataclasses

import numpy as np
import pytest
from support.configs import make_config
from support.run_packs import do
from support.synthetic_pools import made_up_pool

from ecg_jax.data.ecg import PUBLISHED, SIMULATED, STORED, Simulated, join
from ecg_jax.data.storage.shards import open_shards, write_shards
from ecg_jax.data.synthetic import SyntheticSource, Tier, recipe
from ecg_jax.data.synthetic.fitted.pool_identity import identify
from ecg_jax.data.synthetic.fitted.surrogate import fit_spectrum
from ecg_jax.data.synthetic.render.tiers import Recipe, tier_of
from ecg_jax.evaluate import heldout as held
from ecg_jax.evaluate.response import Response, check_apart, check_held_out, response_of, signals_kept
from ecg_jax.store.layout import open_store
from ecg_jax.train.training_data import TrainingData, check_information
from experiments.protocol import data
from experiments.protocol.data import StudyData, split

REAL, OTHER, HELD = made_up_pool(20, 2, name="a"), made_up_pool(8, 4, name="b"), held.freeze(made_up_pool(6, 5), 50)
PTBXL = dataclasses.replace(made_up_pool(40, 7, name="ptbxl"), fold=1 + np.arange(40) % 10)


def with_copy(pool, row: int, signal, **changes):
    """`pool` with a record that has another's signal."""
    ecg = pool.ecg.copy()
    ecg[row] = signal
    return dataclasses.replace(pool, ecg=ecg, **changes)


def leave_out(pool, others=()):
    """What a study leaves out of `pool`, and its training records."""
    found = split(pool, pool.in_folds((9,)), others=others)
    return {item.record_id: item.reason for item in found.excluded}, set(found.training.record_id)


# ---- left out by name, where a study's data are made ---------------------------------------------------------------


@pytest.mark.parametrize("fold", [9, 10])
@pytest.mark.parametrize("how", [lambda x: x, lambda x: x // 3, lambda x: -x, lambda x: x + np.int16(200)])
def test_a_training_record_that_is_a_held_out_recording_is_left_out_by_name(fold, how):
    row, copied = int(np.flatnonzero(PTBXL.fold == 1)[0]), int(np.flatnonzero(PTBXL.fold == fold)[0])
    before = leave_out(PTBXL)[0]
    left_out, trained = leave_out(with_copy(PTBXL, row, how(PTBXL.ecg[copied])))
    (record,) = left_out.keys() - before.keys()
    assert record == PTBXL.record_id[row] and record not in trained
    assert f"same recording as {PTBXL.record_id[copied]}, fold {fold} of the evaluation" in left_out[record]


def test_other_sets_are_held_to_the_same():
    copied = PTBXL.ecg[np.flatnonzero(PTBXL.fold == 10)[1]]
    left_out, trained = leave_out(PTBXL, [with_copy(OTHER, 3, copied)])
    assert "b/00003" in left_out and "b/00003" not in trained and "b/00004" in trained


def test_records_that_validate_are_held_out_wherever_they_come_from():
    elsewhere = made_up_pool(5, 11, name="elsewhere")
    pool = with_copy(with_copy(PTBXL.in_folds((1, 2, 9)), 0, elsewhere.ecg[4]), 1, PTBXL.ecg[8])
    found = split(pool, elsewhere)
    left_out = {item.record_id for item in found.excluded}
    assert set(pool.record_id[:2]) <= left_out and not left_out & set(found.training.record_id)
    without = split(with_copy(PTBXL.in_folds((1, 2)), 0, elsewhere.ecg[4]), elsewhere)  # no fold is held out here
    assert "ptbxl/00000" in {item.record_id for item in without.excluded}


def test_a_held_out_patient_or_a_name_that_was_frozen_is_left_out():
    patients = PTBXL.patient_id.copy()
    patients[0] = patients[np.flatnonzero(PTBXL.fold == 9)[0]]
    left_out, trained = leave_out(dataclasses.replace(PTBXL, patient_id=patients))
    assert "ptbxl/00000" not in trained and "held-out patient" in left_out["ptbxl/00000"]
    named = split(PTBXL, PTBXL.in_folds((9,)), named=["ptbxl/00001", "ptbxl/00008"])  # of folds 2 and 9
    assert "ptbxl/00001" not in named.training.record_id and len(named.heldout.pool) == 4
    assert "ptbxl/00001" in {item.record_id for item in named.excluded}


def test_what_is_left_out_changes_the_identity_and_nothing_else_does():
    one, again = (split(PTBXL, PTBXL.in_folds((9,)), origin="x") for _ in range(2))
    less = split(with_copy(PTBXL, 0, PTBXL.ecg[8]), PTBXL.in_folds((9,)), origin="x")
    assert one.identity == again.identity != less.identity


# ---- refused, where training begins --------------------------------------------------------------------------------


def test_no_run_begins_on_what_it_is_judged_by(tmp_path, mesh):
    leaking = with_copy(REAL, 4, HELD.pool.ecg[2])
    match = "1 records of training are held-out recordings under other names, such as a/00004, which is made-up/00002"
    with pytest.raises(ValueError, match=match):
        response_of(HELD, leaking)
    references = {f"{curve}loss_{name}": 1.0 for curve in ("", "curve_") for name in ("mean", "linear")}
    response = Response(HELD, references)  # made by hand
    config = make_config(study="s", response=HELD.identity, budget_records=256, **{"data.synthetic_records": 50})
    store = open_store(tmp_path, "s", [config], {})
    synthetic = made_up_pool(50, 9, name="syn")
    with pytest.raises(ValueError, match=match):
        do(store, [config], TrainingData(leaking, {"b": synthetic}), response)
    with pytest.raises(ValueError, match=r"records of the synthetic pool 'b' are held-out recordings"):
        do(store, [config], TrainingData(REAL, {"b": with_copy(synthetic, 1, HELD.pool.ecg[0] // 2)}), response)
    assert not store.is_done(config)
    check_held_out(REAL, {"b": synthetic}, response)


def test_a_patient_on_both_sides_is_refused():
    both = dataclasses.replace(REAL, patient_id=np.r_[HELD.pool.patient_id[:1], REAL.patient_id[1:]])
    with pytest.raises(ValueError, match="1 patients stand both in training and among the held-out records"):
        check_apart(both, HELD)


def test_a_study_s_data_are_apart_however_they_were_made():
    with pytest.raises(ValueError, match="held-out recordings under other names"):
        StudyData(with_copy(REAL, 4, HELD.pool.ecg[2]), HELD, "made by hand", frozen=False, excluded=())
    with pytest.raises(ValueError, match=r"4 records of PTB-XL's folds 9 and 10 are among the training records"):
        StudyData(PTBXL.in_folds((1, 10)), HELD, "", frozen=False, excluded=())
    with pytest.raises(ValueError, match=r"such as ptbxl/00008: these folds are held out"):
        TrainingData(join([PTBXL.in_folds((1, 9)), OTHER]), {})
    with pytest.raises(ValueError, match=r"4 records of PTB-XL's folds 9 and 10 are among the synthetic pool 'b'"):
        TrainingData(REAL, {"b": PTBXL.in_folds((10,))})
    with pytest.raises(ValueError, match=r"are among those that a generator is fitted to"):
        fit_spectrum(PTBXL)


# ---- what a source is, it says itself ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "pool",
    [
        dataclasses.replace(REAL, simulated=Simulated("T1d", PUBLISHED)),
        dataclasses.replace(REAL, source=STORED),
        dataclasses.replace(REAL, source=f"x{SIMULATED}"),
    ],
)
def test_simulated_records_are_no_real_ones(pool, tmp_path):
    with pytest.raises(ValueError, match="is no real source"):
        TrainingData(pool, {})
    with pytest.raises(ValueError, match="is no real source"):
        StudyData(pool, HELD, "", frozen=False, excluded=())
    with pytest.raises(ValueError, match=r"is no real source|joined with no others"):
        TrainingData(join([OTHER, pool]), {})
    write_shards(tmp_path / "shards", [pool], fingerprint={})
    if pool.source != STORED:
        with pytest.raises(ValueError, match="simulated ECG is no real set"):
            data._further(tmp_path / "shards")
    assert open_shards(tmp_path / "shards").simulated == pool.simulated


def test_real_records_are_no_synthetic_ones():
    with pytest.raises(ValueError, match="the synthetic pool 's' holds a/00003 of the real records"):
        TrainingData(REAL, {"s": REAL.take(np.arange(3, 9))})
    TrainingData(made_up_pool(4, 1), {"s": made_up_pool(4, 2)})  # the same names, other signals


@pytest.mark.parametrize("tier", list(Tier))
def test_every_tier_knows_its_own_recipe(tier):
    assert tier_of(recipe(tier)) is tier
    assert tier_of(Recipe(anatomy=0.5)) is None


def test_a_source_of_another_tier_than_the_run_says_is_refused():
    pool = dataclasses.replace(made_up_pool(50, 9, name="syn"), simulated=Simulated("T1c", PUBLISHED))
    config = make_config(**{"data.synthetic_records": 50})
    for source, own in ((pool, "of tier T1c"), (SyntheticSource(0, recipe(Tier.ECGSYN)), "of tier T0")):
        with pytest.raises(ValueError, match=f"of tier T1d; their source is {own}"):
            check_information(config, TrainingData(REAL, {"b": source}))
    check_information(
        make_config(**{"data.synthetic_records": 50, "data.tier": "T1c"}), TrainingData(REAL, {"b": pool})
    )
    own = TrainingData(REAL, {"b": SyntheticSource(0, Recipe(anatomy=0.5))})
    with pytest.raises(ValueError, match="of tier T1d; their source is of a recipe that is no tier"):
        check_information(make_config(), own)
    check_information(make_config(**{"data.tier": "half the anatomy"}), own)


def test_a_pool_that_does_not_say_what_made_it_passes_for_no_fitted_tier():
    data_of = TrainingData(REAL, {"b": made_up_pool(50, 9, name="syn")})
    check_information(make_config(**{"data.synthetic_records": 50}), data_of)
    for changes in ({"data.tier": "T2"}, {"data.real_information": identify(REAL).real_information}):
        with pytest.raises(ValueError, match="their source does not say what made it"):
            check_information(make_config(**{"data.synthetic_records": 50} | changes), data_of)


@pytest.mark.parametrize("fraction", [0.0, 1e-7, 0.5])
@pytest.mark.parametrize("stored", [False, True])
def test_priors_are_of_the_run_s_own_pool_at_every_fraction(fraction, stored):
    for fitted_to, match in ((REAL, None), (HELD.pool, "were fitted to pool"), (REAL.take(np.arange(9)), "fitted to")):
        source = SyntheticSource(0, recipe(Tier.NOISE), fitted=fit_spectrum(fitted_to))
        says = source.simulated
        if stored:
            source = dataclasses.replace(made_up_pool(50, 9, name="syn"), simulated=says)
        changes = {"data.real_fraction": fraction, "data.tier": "T-1", "data.synthetic_records": 50}
        config = make_config(**changes | {"data.real_information": says.real_information})
        if match is None:
            check_information(config, TrainingData(REAL, {"b": source}))
        else:
            with pytest.raises(ValueError, match=match):
                check_information(config, TrainingData(REAL, {"b": source}))


def test_a_pool_without_an_end_is_refused():
    data_of = TrainingData(REAL, {"b": made_up_pool(50, 9, name="syn"), "c": SyntheticSource(0, patients=30)})
    for name, held_by in (("b", 50), ("c", 30)):
        for wanted, seed, told in ((None, 0, "fresh"), (None, 1, "fresh"), (51, 0, "51")):
            config = make_config(seed=seed, **{"data.synthetic_records": wanted, "data.synthetic_source": name})
            match = f"draws {told} records from '{name}', a pool of {held_by}: say synthetic_records = {held_by}"
            with pytest.raises(ValueError, match=match):
                data_of.source(config)
        few = {"budget_records": 64, "data.real_fraction": 0.75, "data.synthetic_source": name}
        assert data_of.source(make_config(**few))  # each record once
        assert data_of.source(make_config(**{"data.synthetic_records": 20, "data.synthetic_source": name}))


# ---- the frozen response -------------------------------------------------------------------------------------------


def test_other_signals_under_the_same_names_are_another_response(monkeypatch, tmp_path):
    sketches = held.sketches(HELD.pool)
    assert held.differing(HELD.pool, sketches) == []
    for changed in (
        HELD.pool.ecg // 2,
        np.rint(HELD.pool.ecg + np.random.default_rng(0).normal(0, 5, HELD.pool.ecg.shape)).astype(np.int16),
    ):
        assert held.differing(dataclasses.replace(HELD.pool, ecg=changed), sketches) == []
    for changed in (np.roll(HELD.pool.ecg, 1, axis=0), HELD.pool.ecg[:, ::-1], made_up_pool(6, 8).ecg):
        assert len(held.differing(dataclasses.replace(HELD.pool, ecg=changed), sketches)) >= 5
    other = Response(dataclasses.replace(HELD, pool=dataclasses.replace(HELD.pool, ecg=made_up_pool(6, 8).ecg)), {})
    assert [signals_kept(tmp_path / "responses", [Response(HELD, {})]) for _ in range(2)] == ["", ""]
    assert "6 of 6 held-out records, such as made-up/00000, are not" in signals_kept(tmp_path / "responses", [other])
    with pytest.raises(ValueError, match="sketches are 16 numbers for each of 6 records"):
        held.differing(HELD.pool, sketches[1:])

    frozen = tmp_path / "response.json"
    monkeypatch.setattr(data, "FROZEN", frozen)
    data.write_json(frozen, {"response": HELD.identity})
    other = dataclasses.replace(HELD, pool=dataclasses.replace(HELD.pool, ecg=made_up_pool(6, 8).ecg))
    assert data.is_frozen(HELD) and data.is_frozen(other)  # a file of before says nothing of signals
    data.write_json(frozen, {"response": HELD.identity, "sketches": sketches})
    assert data.is_frozen(HELD)
    with pytest.raises(ValueError, match="6 of 6 held-out records, such as made-up/00000, are not the recordings"):
        data.is_frozen(other)
    assert not data.is_frozen(held.freeze(HELD.pool, 25))
