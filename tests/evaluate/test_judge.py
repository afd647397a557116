"""Figures of tasks, their protocol, the command, and heads to take away."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from support.synthetic_pools import made_up_pool
from support.tiny_encoders import tiny_encoder

from ecg_jax import models
from ecg_jax.__main__ import main
from ecg_jax.data.storage.shards import write_shards
from ecg_jax.evaluate import head_commands
from ecg_jax.evaluate.contract import COLUMNS, evaluate
from ecg_jax.evaluate.features import of_encoder
from ecg_jax.evaluate.head import fit_head, load_head, save_head
from ecg_jax.evaluate.judge import Probe, answer, answer_number, answer_with_few_labels, difference, protocol
from ecg_jax.evaluate.labels import Labels
from ecg_jax.evaluate.probe_task import ProbeTask, pooled_features
from ecg_jax.evaluate.question import ask
from ecg_jax.evaluate.report import resolvable
from ecg_jax.evaluate.targets import Target

RNG = np.random.default_rng(0)
POOL = made_up_pool(1000, 8, name="mine", folds=10)
#: Four independent features, each of which tells one of four labels, as two Gaussians one deviation apart.
POSITIVE = RNG.random((1000, 4)) < 0.4
FEATURES = RNG.normal(size=(1000, 6))
FEATURES[:, :4] += POSITIVE
LABELS = Labels("made up", ("a", "b", "c", "d"), POOL.record_id, POSITIVE)


@pytest.fixture(scope="module")
def question():
    return ask(LABELS, POOL)


def figure(rows, label, metric):
    return rows[(rows["label"] == label) & (rows["metric"] == metric)].iloc[0]


# ---- figures -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", [Probe.LINEAR, Probe.NEIGHBOURS, Probe.BOOSTED])
def test_a_planted_figure_is_found(question, how):
    rows = answer(question, FEATURES, how).rows
    assert tuple(rows.columns) == COLUMNS and len(rows) == 4 * 6 + 1
    macro = figure(rows, "macro", "auroc")
    assert (macro.n, macro.positives) == (100, 100) and macro.low < macro.value < macro.high
    if how is Probe.LINEAR:
        assert macro.low < 0.7602 < macro.high
    assert figure(rows, "a", "prevalence").value == pytest.approx(question.positive_MxC[:, 0].mean())
    assert figure(rows, "a", "brier").value < 0.26 and np.isnan(figure(rows, "a", "brier").low)


def test_permuted_labels_of_the_scored_fold_change_no_choice(question):
    turned = dataclasses.replace(question, positive_MxC=question.positive_MxC[::-1])
    ours, theirs = (answer(of, FEATURES) for of in (question, turned))
    np.testing.assert_array_equal(ours.score_MxC, theirs.score_MxC)
    assert protocol(question, POOL) != protocol(turned, POOL) and protocol(question, POOL) == protocol(question, POOL)


def test_shuffled_labels_are_told_by_chance(question):
    turned = dataclasses.replace(question, positive_NxC=np.random.default_rng(3).permutation(question.positive_NxC))
    macro = figure(answer(turned, FEATURES).rows, "macro", "auroc")
    assert macro.low < 0.5 < macro.high


def test_few_labels_tell_less(question):
    rows = answer_with_few_labels(question, FEATURES, budgets=(100, 400, 5000))
    assert list(rows["probe"]) == ["linear, 100 patients", "linear, 400 patients"]
    assert (rows["low"] < rows["value"]).all() and rows["value"].iloc[0] < rows["value"].iloc[1] + 0.02
    one_class = dataclasses.replace(question, classes=("a",))
    assert answer_with_few_labels(one_class, FEATURES).empty


def test_differences_are_paired(question):
    ours = answer(question, FEATURES)
    same = difference(question, ours, ours)
    assert (same.value, same.low, same.high) == (0, 0, 0)
    worse = answer(question, FEATURES[:, 1:])  # without what tells the first label
    found = difference(question, ours, worse)
    assert found.low > 0 and found.value == pytest.approx(
        figure(ours.rows, "macro", "auroc").value - figure(worse.rows, "macro", "auroc").value
    )
    assert difference(dataclasses.replace(question, classes=("a",)), ours, worse) is None


def test_a_number_is_told_on_the_scored_fold_alone():
    value = {record: float(10 * x[0] + 3) for record, x in zip(POOL.record_id, FEATURES, strict=True)}
    rows = answer_number(Target("age", "years", value), POOL, FEATURES)
    r2 = figure(rows, "years", "r2")
    assert r2.value > 0.999 and r2.n == 100 and set(rows["metric"]) == {"mae", "r2", "bias"}
    scored = set(POOL.record_id[POOL.fold == 9])
    with pytest.raises(ValueError, match="age is known of 0 records in training and 100 scored ones"):
        answer_number(Target("age", "years", {k: v for k, v in value.items() if k in scored}), POOL, FEATURES)


def test_a_task_keeps_the_contract_of_evaluators(question, folders, mesh):
    ours = of_encoder(folders / "encoder").encoder
    task = ProbeTask(question, POOL, ours.config.model.patches)
    model = models.build(ours.config.model)
    table = evaluate([task], model, ours._params)
    assert (table["protocol"] == protocol(question, POOL)).all() and (table["evaluator"] == "linear probe").all()
    features = pooled_features(model, ours._params, POOL, ours.config.model.patches)
    np.testing.assert_allclose(features, ours(POOL.ecg), atol=1e-5)
    with pytest.raises(ValueError, match="this fold is sealed"):
        ProbeTask(question, made_up_pool(10, name="ptbxl", folds=10), 50)


# ---- the command ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """An encoder, shards of records, and a table of labels that the records' rates tell."""
    root = tmp_path_factory.mktemp("site")
    tiny_encoder(root / "encoder", seed=7)
    write_shards(root / "shards", iter([POOL]), fingerprint={"made": "up"})
    features = of_encoder(root / "encoder").features(POOL.ecg)
    lines = [
        f"{record},{name}"
        for record, x in zip(POOL.record_id, features, strict=True)
        for column, name in enumerate(("fast", "slow", "wide"))
        if x[column] > np.median(features[:, column])
    ]
    (root / "mine.csv").write_text("\n".join(["record,label", *lines]) + "\n")
    return root


def test_the_command_writes_tables_and_pages(folders, tmp_path, capsys):
    words = ["evaluate", folders / "encoder", "--records", folders / "shards", "--labels", folders / "mine.csv"]
    assert main([*map(str, words), "--out", str(tmp_path / "out")]) == 0, capsys.readouterr().err
    table = pd.read_csv(tmp_path / "out" / "evaluations.csv")
    assert tuple(table.columns) == ("run_id", *COLUMNS, "protocol") and table["protocol"].nunique() == 1
    assert table["run_id"].nunique() == 6  # ours, three random ones, components, by hand
    ours = of_encoder(folders / "encoder").name
    of_ours = table[(table["run_id"] == ours) & (table["label"] == "macro") & (table["probe"] == "linear")]
    assert of_ours["value"].item() > 0.9
    pairs = pd.read_csv(tmp_path / "out" / "differences.csv")
    assert len(pairs[pairs["probe"] == "linear"]) == 15 and 0 < resolvable(pairs, "mine", "linear") < 0.5
    pages = {path.name for path in (tmp_path / "out" / "pages").iterdir()}
    assert f"{ours}.html" in pages and len(pages) == 6
    assert "are not resolved by these records" in (tmp_path / "out" / "pages" / f"{ours}.html").read_text()
    assert main([*map(str, words), "--no-references", "--out", str(tmp_path / "again")]) == 0
    again = (tmp_path / "again" / "evaluations.csv").read_text().splitlines()
    assert again == (tmp_path / "out" / "evaluations.csv").read_text().splitlines()[: len(again)]
    assert main([*map(str, [words[0], folders / "encoder", *words[1:]]), "--out", str(tmp_path / "twice")]) == 2


def test_records_of_no_known_labels_are_refused(folders, tmp_path, capsys):
    words = ["evaluate", folders / "encoder", "--records", folders / "shards", "--out", tmp_path / "out"]
    assert main(list(map(str, words))) == 2
    assert "name a table of them with --labels" in capsys.readouterr().err


# ---- heads ---------------------------------------------------------------------------------------------------------


def test_a_head_is_calibrated_and_keeps_its_sensitivity():
    rng = np.random.default_rng(5)
    positive = rng.random((4000, 1)) < 0.3
    feature = rng.normal(size=(4000, 3))
    feature[:, :1] += 1.5 * positive
    head = fit_head(feature[:2000], positive[:2000], np.arange(2000), ("x",), sensitivity=0.8)
    told = head.probabilities(feature[2000:])[:, 0]
    assert np.abs(told.mean() - 0.3) < 0.04 and 0 < told.min() < told.max() < 1
    confident = told > 0.7
    assert positive[2000:, 0][confident].mean() == pytest.approx(told[confident].mean(), abs=0.08)
    assert (told >= head.threshold_C[0])[positive[2000:, 0]].mean() == pytest.approx(0.8, abs=0.05)
    order = np.argsort(head.probe.scores(feature[2000:])[:, 0])
    assert (np.diff(told[order]) >= 0).all()
    with pytest.raises(ValueError, match=r"x: 20 records of one value, 30 of either are needed"):
        fit_head(feature[:100], np.arange(100)[:, None] < 20, np.arange(100), ("x",))
    with pytest.raises(ValueError, match=r"sensitivity is 1\.5"):
        fit_head(feature, positive, np.arange(4000), ("x",), sensitivity=1.5)


def test_heads_are_fitted_predict_and_are_validated(folders, tmp_path, capsys):
    head, out = tmp_path / "head", tmp_path / "out"
    labelled = ["--labels", folders / "mine.csv"]
    fit = ["evaluate", "fit", folders / "encoder", "--records", folders / "shards", *labelled, "--save", head]
    assert main(list(map(str, fit))) == 0, capsys.readouterr().err
    assert {path.name for path in head.iterdir()} == {"README.md", "encoder", "head.json", "head.safetensors"}
    assert "| fast |" in (head / "README.md").read_text()
    predict = ["evaluate", "predict", head, folders / "shards", "--out", tmp_path / "scores.csv"]
    assert main(list(map(str, predict))) == 0
    scores = pd.read_csv(tmp_path / "scores.csv")
    assert len(scores) == 1000 and scores["fast"].between(0, 1).all() and scores["fast, called"].dtype == bool
    validate = ["evaluate", "validate", head, folders / "shards", *labelled, "--out", out]
    assert main(list(map(str, validate))) == 0
    table = pd.read_csv(out / "validation.csv").set_index("label")
    assert (table["auroc"] > 0.9).all() and (table["low"] < table["auroc"]).all()
    assert (table["sensitivity"] > 0.85).all() and (out / "calibration.png").stat().st_size > 5000
    assert main(list(map(str, fit))) == 2 and "exists: name another folder" in capsys.readouterr().err


def test_a_head_whose_parts_do_not_fit_is_refused(folders, tmp_path):
    encoder = folders / "encoder"
    features = of_encoder(encoder).features(POOL.ecg)
    head = fit_head(features, POSITIVE[:, :1], POOL.patient_id, ("a",))
    save_head(tmp_path / "head", head, encoder, "made up")
    loaded, _ = load_head(tmp_path / "head")
    np.testing.assert_allclose(loaded.probabilities(features), head.probabilities(features))
    tiny_encoder(tmp_path / "other", seed=1)
    for name in ("model.safetensors", "config.json"):
        (tmp_path / "head" / "encoder" / name).write_bytes((tmp_path / "other" / name).read_bytes())
    with pytest.raises(ValueError, match="is not the encoder that this head was fitted on"):
        load_head(tmp_path / "head")
    with pytest.raises(FileNotFoundError, match=r"is no head: it lacks head\.safetensors"):
        load_head(encoder)
    labels = Labels("t", ("z",), POOL.record_id, POSITIVE[:, :1])
    with pytest.raises(ValueError, match="the head tells a; the table has z"):
        head_commands.validation(head, head.probabilities(features), labels, POSITIVE[:, :1])
