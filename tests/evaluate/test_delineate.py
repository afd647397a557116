"""Boundaries that are right, shifted, missing and made up, and a map that finds them."""

import numpy as np
import pandas as pd
import pytest

from ecg_jax.evaluate.delineate import BOUNDARIES, WAVES, boundary_figures, fit_sample_map, match


def waves(record="r", lead="II"):
    rows = []
    for beat in range(1, 8):
        for wave, onset, offset in (("P", -0.2, -0.1), ("QRS", -0.04, 0.05), ("T", 0.2, 0.4)):
            rows.append((record, lead, wave, beat + onset, beat + offset))
    return pd.DataFrame(rows, columns=["record_id", "lead", "wave", "onset_s", "offset_s"])


def test_perfect_boundaries_score_0_ms_and_all():
    figures = boundary_figures(waves(), pd.concat([waves(), waves("s")]))
    of_one = boundary_figures(waves(), waves())
    assert (of_one["mean_ms"] == 0).all() and (of_one["sd_ms"] == 0).all()
    assert (of_one[["sensitivity", "precision"]] == 1).all(axis=None) and len(of_one) == len(WAVES) * len(BOUNDARIES)
    assert (figures["sensitivity"] == 0.5).all() and (figures["precision"] == 1).all()  # the other record's are missed


def test_boundaries_shifted_by_20_ms_score_20_ms():
    shifted = waves()
    shifted[list(BOUNDARIES)] += 0.02
    figures = boundary_figures(shifted, waves())
    np.testing.assert_allclose(figures["mean_ms"], 20)
    np.testing.assert_allclose(figures["sd_ms"], 0, atol=1e-9)
    assert (figures[["sensitivity", "precision"]] == 1).all(axis=None)
    shifted[list(BOUNDARIES)] += 0.14
    assert boundary_figures(shifted[shifted["wave"] == "P"], waves())["sensitivity"].iloc[0] == 0


def test_what_is_found_where_nobody_looked_counts_neither_way():
    beyond = pd.DataFrame([("r", "II", "QRS", 9.0, 9.1)], columns=waves().columns)
    among = pd.DataFrame([("r", "II", "QRS", 3.5, 3.6)], columns=waves().columns)
    figures = boundary_figures(pd.concat([waves(), beyond]), waves())
    assert (figures["precision"] == 1).all()
    figures = boundary_figures(pd.concat([waves(), among]), waves()).set_index(["wave", "boundary"])
    assert figures.loc[("QRS", "onset_s"), "precision"] == pytest.approx(7 / 8)
    with pytest.raises(ValueError, match="no wave is annotated"):
        boundary_figures(waves(), waves().iloc[:0])


def test_each_boundary_is_matched_once_the_nearest_first():
    found, true = match(np.array([0.9, 1.01, 1.3]), np.array([1.0, 1.2]))
    assert sorted(zip(found.tolist(), true.tolist(), strict=True)) == [(1, 0), (2, 1)]


def test_a_map_from_tokens_finds_planted_parts_and_no_patient_is_on_both_sides():
    rng = np.random.default_rng(0)
    token = rng.normal(size=(60, 10, 6))
    part = (token[..., :1] + np.linspace(-1, 1, 4) > 0).astype(int).reshape(60, 40)
    part[:, :4] = -1
    learnt = fit_sample_map(token[:40], part[:40], np.arange(40), np.arange(40, 60))
    x = np.append(token[40:].reshape(-1, 6), np.ones((200, 1)), axis=1)
    told = (x @ learnt).reshape(20, 40, 2).argmax(axis=-1)
    assert (told == part[40:])[:, 4:].mean() > 0.9
    with pytest.raises(ValueError, match="1 patients are trained on and scored, such as 39"):
        fit_sample_map(token[:40], part[:40], np.arange(40), np.array([39, 50]))
    with pytest.raises(ValueError, match="39 samples do not divide into 10 tokens"):
        fit_sample_map(token[:40], part[:40, :39], np.arange(40), np.arange(40, 60))
