"""Reading run tables: what is refused, what is left out and under which name."""

import numpy as np
import pandas as pd
import pytest
from support.exported_tables import exported

from scaling_fits.tables.run_table import read_runs, seed_summary


def runs(count: int = 20, **columns) -> pd.DataFrame:
    frame = pd.DataFrame({"run_id": [f"run{i:02d}" for i in range(count)], "loss": np.linspace(0.2, 0.5, count)})
    return exported(frame.assign(n_params=1e5, loss_mean=1.0, **columns))


def test_exclusions_are_named_and_counted_once():
    frame = runs(diverged=False, exclusion=None)
    frame.loc[0, ["diverged", "loss"]] = [True, np.nan]
    frame.loc[1, "loss"] = np.nan
    frame.loc[2, "loss"] = 0.96
    frame.loc[3, ["exclusion", "loss"]] = ["lead swap", 0.97]
    table = read_runs(frame)
    assert table.excluded == {"diverged": 1, "lead swap": 1, "not_finite": 1, "pre_transition": 1}
    assert len(table.rows) == 16
    assert table.pre_transition_share == pytest.approx(1 / 17)
    assert table.law_refusal is None


def test_a_study_with_too_many_pre_transition_rows_states_no_law_even_after_selection():
    frame = runs(pre_transition=[True] * 3 + [False] * 17, real_fraction=[0.5] * 10 + [0.0] * 10)
    assert "15.0 %" in read_runs(frame).law_refusal
    assert "15.0 %" in read_runs(frame).where(real_fraction=0).law_refusal


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"drop": "loss"}, "missing columns ['loss']"),
        ({"loss": "high"}, "'run05' with 'high'"),
        ({"loss": -0.1}, "'run05' with -0.1"),
        ({"run_id": "run04"}, "names 'run04' twice"),
    ],
)
def test_what_is_wrong_is_named(change, words):
    frame = runs()
    if "drop" in change:
        frame = frame.drop(columns=change["drop"])
    else:
        ((column, value),) = change.items()
        frame[column] = frame[column].astype(object)
        frame.loc[5, column] = value
    with pytest.raises(ValueError) as error:
        read_runs(frame)
    assert words in str(error.value)


def test_a_run_listed_for_two_questions_is_one_run_of_either():
    twice = pd.concat([runs(question="width"), runs().iloc[:3].assign(question="depth")], ignore_index=True)
    table = read_runs(twice)
    assert table.excluded == {"same_run": 3} and len(table.rows) == 20
    assert table.warnings == ("3 rows list a run again, counted once: run00, run01, run02",)
    assert len(table.where(question="depth").rows) == 3 and table.where(question="depth").excluded == {}
    twice.loc[20, "loss"] = 0.21
    with pytest.raises(
        ValueError, match="names 'run00' twice, in rows that differ in loss, question; a run is one row"
    ):
        read_runs(twice)


def test_a_missing_file_is_said_to_be_missing(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.csv"):
        read_runs(tmp_path / "none.csv")


def test_selection_keeps_only_the_asked_rows_and_names_an_empty_one():
    table = read_runs(runs(tier=["T0", "T1"] * 10, epochs_real=[0.5, 3.0] * 10))
    assert set(table.where(tier="T1").rows["tier"]) == {"T1"}
    assert set(table.fresh().rows["epochs_real"]) == {0.5}
    with pytest.raises(ValueError, match=r"no row with tier = 'T9'.*T0"):
        table.where(tier="T9")


def test_seed_summary_has_no_spread_for_one_seed():
    frame = runs(seed=[0, 1] * 10, arm=[0] * 19 + [1], epochs_real=2.0)
    frame.loc[:18, "loss"] = np.exp(np.where(frame["seed"][:19] == 0, 0.01, -0.01))
    frame["loss_mean"] = 3.0
    summary = seed_summary(read_runs(frame), ["arm"])
    assert np.isnan(summary["log_sd"][1]) and summary["seeds"].tolist() == [19, 1]
    assert summary["log_sd"][0] == pytest.approx(0.01, rel=0.05)
    assert summary["epochs_real"].tolist() == [2.0, 2.0]
