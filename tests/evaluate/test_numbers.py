"""Questions, probes of tokens and of numbers, and what they are asked of PTB-XL and LUDB."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from support.synthetic_pools import made_up_pool

from ecg_jax.data.real.datasets.ludb import read_waves
from ecg_jax.evaluate import synthetic_task
from ecg_jax.evaluate.attention import _loss_and_gradient, fit_attention_probe
from ecg_jax.evaluate.labels import Labels, Task, read_classes
from ecg_jax.evaluate.metrics import auroc
from ecg_jax.evaluate.probe import fit_linear_probe
from ecg_jax.evaluate.question import BUDGETS, ask, budget_rows, budgets_within, unsealed
from ecg_jax.evaluate.ridge import fit_ridge_probe, regression_figures
from ecg_jax.evaluate.synthetic_task import labelled_synthetic
from ecg_jax.evaluate.targets import measured_heart_rate, read_ptbxl_age, read_ptbxl_sex, wave_intervals

POOL = made_up_pool(400, 6, folds=10)


def labels_of(pool, positive, classes):
    order = np.argsort(pool.record_id)
    return Labels("made up", classes, pool.record_id[order], positive[order])


@pytest.fixture(scope="module")
def labels():
    bits = np.stack([np.arange(400) // tens % 2 == 0 for tens in (10, 20)], axis=1)
    return labels_of(POOL, np.concatenate([bits, np.arange(400)[:, None] < 3], axis=1), ("a", "b", "rare"))


# ---- questions -----------------------------------------------------------------------------------------------------


def test_a_question_takes_folds_apart_and_names_what_is_not_scored(labels):
    asked = ask(labels, POOL)
    assert set(POOL.fold[asked.train_N]) == set(range(1, 9)) and set(POOL.fold[asked.scored_M]) == {9}
    assert asked.classes == ("a", "b") and not asked.has_macro
    assert "0 positive and 40 negative" in asked.left_out["rare"]
    known = dict(zip(labels.record_id_N, labels.positive_NxC, strict=True))
    for rows, positive in ((asked.train_N, asked.positive_NxC), (asked.scored_M, asked.positive_MxC)):
        np.testing.assert_array_equal([known[POOL.record_id[row]][:2] for row in rows], positive)
    assert ask(labels, POOL.take(np.arange(395))).unlabelled == 0
    fewer = dataclasses.replace(labels, record_id_N=labels.record_id_N[:390], positive_NxC=labels.positive_NxC[:390])
    assert ask(fewer, POOL).unlabelled == 10


def test_a_split_that_is_broken_on_purpose_is_refused(labels):
    patient = POOL.patient_id.copy()
    patient[8] = patient[0]  # fold 9 and fold 1
    with pytest.raises(ValueError, match="1 patients are trained on and scored, such as 60000: split by patient"):
        ask(labels, dataclasses.replace(POOL, patient_id=patient))


def test_what_cannot_be_asked_is_told(labels):
    with pytest.raises(ValueError, match=r"no labelled record in the fold 9, which is scored,"):
        ask(labels, POOL.in_folds((1, 2)))
    rare = dataclasses.replace(labels, classes=("rare",), positive_NxC=labels.positive_NxC[:, 2:])
    with pytest.raises(ValueError, match=r"none of 1 classes can be scored \(rare: 0 positive and 40"):
        ask(rare, POOL)
    assert not (unsealed(POOL).fold == 10).any() and len(unsealed(POOL)) == 360


def test_budgets_are_nested_by_patient_and_know_no_label():
    patient = np.repeat(np.arange(150), 2)
    for draw in range(3):
        few, many = (set(budget_rows(patient, budget, draw)) for budget in (20, 100))
        assert few < many and len(few) == 40 and len(many) == 200
    assert set(budget_rows(patient, 20, 0)) != set(budget_rows(patient, 20, 1))
    with pytest.raises(ValueError, match="a budget of 0 patients: give 1 to 150"):
        budget_rows(patient, 0, 0)
    assert budgets_within(patient) == BUDGETS[:1]


# ---- the probe that attends ----------------------------------------------------------------------------------------


def test_the_gradient_of_the_attention_is_that_of_differences():
    rng = np.random.default_rng(0)
    token, positive = rng.normal(size=(6, 4, 3)), rng.random((6, 2)) < 0.5
    x = rng.normal(size=3 + 6 + 2)
    _, gradient = _loss_and_gradient(x, token, positive, 0.7)
    for place in range(len(x)):
        step = np.zeros_like(x)
        step[place] = 1e-3
        ahead, behind = (_loss_and_gradient(x + sign * step, token, positive, 0.7)[0] for sign in (1, -1))
        assert gradient[place] == pytest.approx((ahead - behind) / 2e-3, rel=1e-3, abs=1e-4)


def test_attention_finds_the_one_token_that_a_mean_hides():
    rng = np.random.default_rng(1)
    token, positive = rng.normal(size=(500, 24, 4)), np.arange(500) % 2 == 0
    at = rng.integers(0, 24, 500)
    token[np.arange(500), at, 0] += 4  # the token that tells
    token[np.arange(500), at, 1] = 3 * np.where(positive, 1, -1) + rng.normal(size=500)
    given = (token[:300], positive[:300, None], np.arange(300))
    probe = fit_attention_probe(*given)
    reached = auroc(probe.scores(token[300:])[:, 0], positive[300:])
    mean = fit_linear_probe(token[:300].mean(axis=1), positive[:300, None], np.arange(300), ["planted"])
    assert reached > 0.95 > auroc(mean.scores(token[300:].mean(axis=1))[:, 0], positive[300:]) + 0.05
    assert np.mean(probe.attention(token[300:]).argmax(axis=1) == at[300:]) > 0.9
    assert fit_attention_probe(*given).weight_CxD.tobytes() == probe.weight_CxD.tobytes()
    with pytest.raises(ValueError, match=r"tokens of shape \(500, 4\)"):
        probe.scores(token[:, 0])
    with pytest.raises(ValueError, match="a class has one value in all 300"):
        fit_attention_probe(token[:300], np.ones((300, 1), bool), np.arange(300))


# ---- numbers -------------------------------------------------------------------------------------------------------


def test_a_number_of_which_features_hold_half_is_told_by_half():
    rng = np.random.default_rng(2)
    feature = rng.normal(size=(9000, 8)) * np.geomspace(0.1, 100, 8)
    signal = feature @ (1 / np.geomspace(0.1, 100, 8)) / np.sqrt(8)
    value = 50 + 10 * (signal + rng.normal(size=9000))
    probe = fit_ridge_probe(feature[:3000], value[:3000], np.arange(3000))
    found = regression_figures(probe.predict(feature[3000:]), value[3000:], np.arange(6000), replicates=300)
    assert found["r2"].value == pytest.approx(0.5, abs=0.03) and found["r2"].low < 0.5 < found["r2"].high
    assert found["mae"].value == pytest.approx(10 * np.sqrt(2 / np.pi), rel=0.03)
    assert found["bias"].low < 0 < found["bias"].high
    shifted = regression_figures(probe.predict(feature[3000:]) + 3, value[3000:], np.arange(6000), replicates=300)
    assert shifted["bias"].value == pytest.approx(found["bias"].value + 3) and shifted["bias"].low > 2


def test_a_number_that_features_do_not_hold_is_shrunk_away():
    rng = np.random.default_rng(3)
    feature, value = rng.normal(size=(300, 60)), rng.normal(size=300)
    probe = fit_ridge_probe(feature, value, np.arange(300))
    told = probe.predict(rng.normal(size=(4000, 60)))
    least_squares = np.linalg.lstsq(feature - feature.mean(axis=0), value - value.mean(), rcond=None)[0]
    assert told.std() < 0.6 * np.linalg.norm(least_squares)
    for bad in (np.ones(300), np.where(np.arange(300) == 1, np.nan, value)):
        with pytest.raises(ValueError, match="the 300 values to be told are all the same, or no finite"):
            fit_ridge_probe(feature, bad, np.arange(300))
    with pytest.raises(ValueError, match="1 patients with values"):
        regression_figures(value, value, np.zeros(300))


def test_the_intervals_of_errors_cover_what_they_should():
    """At 120 patients of two records, whose errors go together; 95 % wanted."""
    rng, covered = np.random.default_rng(4), []
    for _ in range(200):
        patient = np.repeat(np.arange(120), 2)
        value = rng.normal(size=240)
        told = value + 0.5 + rng.normal(size=120)[patient] + 0.3 * rng.normal(size=240)
        bias = regression_figures(told, value, patient, replicates=300)["bias"]
        covered.append(bias.low <= 0.5 <= bias.high)
    assert 0.9 <= np.mean(covered) <= 0.99


def test_ages_and_sexes_of_ptbxl(ecg_data_dir, tmp_path):
    age, sex = read_ptbxl_age(ecg_data_dir), read_ptbxl_sex(ecg_data_dir)
    assert len(age.values) > 5000 and min(age.values.values()) >= 0 and max(age.values.values()) <= 89
    assert age.unknown > 0 and age.values["ptbxl/00001"] == 56 and sex.classes == ("female",)
    known = dict(zip(sex.record_id_N, sex.positive_NxC[:, 0], strict=True))
    assert known["ptbxl/00001"] and not known["ptbxl/00002"]
    (tmp_path / "ptbxl_database.csv").write_text("ecg_id,age,sex\n1,300.0,1\n2,40,\n")
    assert read_ptbxl_age(tmp_path).values == {"ptbxl/00002": 40} and read_ptbxl_sex(tmp_path).without == 1
    (tmp_path / "ptbxl_database.csv").write_text("ecg_id,age,sex\n1,30,7\n")
    with pytest.raises(ValueError, match="sex is '7', expected one of"):
        read_ptbxl_sex(tmp_path)


def test_rates_are_measured_and_intervals_are_those_of_annotated_waves(ecg_data_dir):
    rate = measured_heart_rate(POOL.take(np.arange(5)))
    assert rate.of(POOL.take(np.arange(2))).shape == (2,)
    waves = pd.DataFrame(
        [
            ("r", "II", "P", 0.80, 0.85, 0.90),
            ("r", "II", "QRS", 0.96, 1.00, 1.05),
            ("r", "II", "T", 1.20, 1.30, 1.36),
            ("r", "II", "QRS", 1.96, 2.00, 2.07),
            ("r", "V1", "QRS", 1.90, 2.00, 2.20),
            ("s", "V1", "QRS", 0.90, 1.00, 1.10),
        ],
        columns=["record_id", "lead", "wave", "onset_s", "peak_s", "offset_s"],
    )
    pr, qrs, qt = wave_intervals(waves)
    assert pr.values == {"r": pytest.approx(160)} and qt.values == {"r": pytest.approx(400)}
    assert qrs.values == {"r": pytest.approx(100)} and (pr.unit, pr.unknown) == ("ms", 1)
    real = read_waves(ecg_data_dir / "ludb" / "data" / "1.hea")
    real.insert(0, "record_id", "ludb/001")
    pr, qrs, qt = (target.values["ludb/001"] for target in wave_intervals(real))
    assert 90 < pr < 260 and 60 < qrs < 180 and 300 < qt < 520


# ---- synthetic to real ---------------------------------------------------------------------------------------------


def test_labels_of_synthetic_records_follow_the_table_of_statements(monkeypatch):
    stated = (("SR", "CLBBB"), ("SR",), ("AFIB", "AMI", "QWAVE"), ("SR", "NORM"))
    monkeypatch.setattr(synthetic_task, "annotate", lambda *_: SimpleNamespace(scp_codes=stated))
    monkeypatch.setattr(synthetic_task, "SyntheticSource", lambda *_: SimpleNamespace(read=lambda rows: POOL.ecg[rows]))
    classes_of = {"CLBBB": ("CD",), "AMI": ("MI",), "NORM": ("NORM",), "SR": ()}
    pool, labels = labelled_synthetic("superdiagnostic", classes_of, records=4)
    assert labels.classes == ("CD", "MI", "NORM") and labels.without == 1
    assert labels.record_id_N.tolist() == [f"synthetic/{k:06d}" for k in (0, 2, 3)]
    assert labels.positive_NxC.tolist() == np.eye(3, dtype=bool).tolist()
    assert len(np.unique(pool.patient_id)) == 4 and pool.labels == stated


@pytest.mark.long
def test_synthetic_records_bear_the_classes_of_their_statements(ecg_data_dir):
    classes_of = read_classes(ecg_data_dir / "ptbxl" / "scp_statements.csv", Task.SUPERDIAGNOSTIC)
    pool, labels = labelled_synthetic("superdiagnostic", classes_of, records=64)
    assert len(pool) == 64 and pool.ecg.shape == (64, 1000, 12) and pool.simulated is not None
    assert set(labels.classes) <= {"CD", "HYP", "MI", "NORM", "STTC"} and len(labels.classes) >= 4
    by_id = {record: codes for record, codes in zip(pool.record_id, pool.labels, strict=True)}
    for record, row in zip(labels.record_id_N, labels.positive_NxC, strict=True):
        expected = {found for code in by_id[record] for found in classes_of.get(code, ())}
        assert {name for name, has in zip(labels.classes, row, strict=True) if has} == expected
