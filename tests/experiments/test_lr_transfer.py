"""Where best rates lie is found, and the study holds what it says."""

import math

import numpy as np
import pandas as pd
import pytest

from ecg_jax.config import Parametrisation
from experiments import lr_transfer

TINY = lr_transfer.Preset((16,), 1, (1,), 16, 8, 128, 30_000, (30_000,), (32,), 32, 128)


def losses_at(rates, best, curvature=0.02):
    return {rate: 0.3 * math.exp(curvature * math.log2(rate / best) ** 2) for rate in rates}


@pytest.mark.parametrize("best", [0.001, 0.011, 0.3])
@pytest.mark.parametrize("reach", [1, 2])
def test_rates_are_tried_until_the_best_one_is_bracketed(best, reach):
    losses = {}
    while missing := lr_transfer.next_rates(losses, 0.012, reach):
        losses |= losses_at(missing, best)
    lowest, rates = min(losses, key=losses.get), sorted(losses)
    assert reach <= rates.index(lowest) < len(rates) - reach
    np.testing.assert_allclose(np.diff(np.log2(rates)), 1)


def test_a_diverged_rate_ends_the_search():
    losses = {0.006: 0.4, 0.012: 0.3, 0.024: math.inf}
    assert lr_transfer.next_rates(losses, 0.012, 1) == []
    assert lr_transfer.fit(losses) is None  # two points make no parabola


def test_the_vertex_is_found_exactly_on_a_parabola_and_its_interval_holds_it_under_noise():
    rates = [0.003 * 2**k for k in range(5)]
    best = lr_transfer.fit(losses_at(rates, best=0.013))
    assert 2**best.log2_rate == pytest.approx(0.013) and math.exp(best.low) == pytest.approx(0.3)
    assert best.curvature == pytest.approx(0.02) and np.allclose(best.residuals, 0)
    rng, deviation, errors = np.random.default_rng(0), 0.002, []
    for _ in range(200):
        noisy = {rate: loss * math.exp(rng.normal(0, deviation)) for rate, loss in losses_at(rates, 0.013).items()}
        found = lr_transfer.fit(noisy)
        errors.append((found.log2_rate - math.log2(0.013)) / (deviation * math.sqrt(found.unit_variance)))
    assert 0.9 < np.mean(np.abs(errors) < lr_transfer.NORMAL_95) < 0.99


@pytest.mark.parametrize("best", [0.0001, 10.0])
def test_a_best_rate_outside_of_those_tried_is_not_made_up(best):
    assert lr_transfer.fit(losses_at([0.006, 0.012, 0.024], best)) is None


def test_transfer_tells_drift_from_rest():
    cells = lr_transfer.cells(lr_transfer.PRESETS["cpu"])
    done = []
    for cell in (c for c in cells if c.question == "width"):
        ours = cell.group == "complete_p"
        best = 0.012 if ours else 0.012 * 48 / cell.config.model.width
        done.append((cell, losses_at([best / 3, best / 1.5, best * 1.5, best * 3], best)))
    found = lr_transfer.transfer(lr_transfer.best_table(done))
    assert found["width, complete_p"]["power"] == pytest.approx(0, abs=1e-6)
    assert found["width, standard"]["power"] == pytest.approx(-1)
    assert found["width, standard"]["largest_over_smallest_best_rate"] == pytest.approx(8)


@pytest.mark.parametrize("name", lr_transfer.PRESETS)
def test_presets_cover_what_they_promise(name):
    preset = lr_transfer.PRESETS[name]
    assert max(preset.widths) >= 8 * min(preset.widths) and max(preset.depths) >= 4 * min(preset.depths)
    cells = lr_transfer.cells(preset)
    shapes = {(c.group, c.config.model.width, c.config.model.depth) for c in cells if c.question in ("width", "depth")}
    assert {group for group, _, _ in shapes} == set(Parametrisation)
    assert {c.config.data.real_fraction for c in cells if c.question == "arm"} == {0.0, 0.5, 1.0}
    assert {c.config.data.real_patients for c in cells if c.question == "arm"} == {None, lr_transfer.SMALL_POOL}
    batches = [c.config for c in cells if c.question == "batch"]
    assert len({c.budget_records for c in batches}) == 1 and len({c.model for c in batches}) == 2
    assert [c.work for c in cells] == sorted(c.work for c in cells)


def test_rates_of_the_standard_parametrisation_start_at_a_whole_octave():
    for cell in lr_transfer.cells(lr_transfer.PRESETS["gpu"]):
        octaves = math.log2(cell.config.optim.learning_rate / lr_transfer.START_RATE)
        assert octaves == round(octaves)


def test_help_teaches(capsys):
    with pytest.raises(SystemExit, match="0"):
        lr_transfer.main(["--help"])
    printed = capsys.readouterr().out
    assert "Wall time" in printed and "--preset" in printed and "Example" in printed


def test_a_reach_of_nothing_is_refused(capsys):
    assert lr_transfer.main(["--reach", "0"]) == 2
    assert "--reach 0 must be at least 1" in capsys.readouterr().err


@pytest.mark.long
def test_a_small_study_runs_and_goes_on_where_it_stopped(capsys, monkeypatch, tmp_path):
    monkeypatch.delenv("ECG_DATA_DIR", raising=False)
    monkeypatch.setitem(lr_transfer.PRESETS, "cpu", TINY)
    results = tmp_path / "results"
    arguments = ["--questions", "width", "--standin-patients", "40", "--out", str(tmp_path), "--results", str(results)]
    assert lr_transfer.main(arguments) == 0
    runs, best = pd.read_csv(results / "runs.csv"), pd.read_csv(results / "best.csv")
    assert set(runs.parametrisation) == {"complete_p", "standard"} and set(runs.target) == {"stand-in, not real"}
    assert len(best) == 2 and (best.rates >= 3).all() and (results / "lr_transfer.png").stat().st_size > 10_000
    before = {path.name: path.read_bytes() for path in results.iterdir()}
    capsys.readouterr()
    assert lr_transfer.main(arguments) == 0
    assert "held-out loss 0" not in capsys.readouterr().out  # no run was done again
    assert before == {path.name: path.read_bytes() for path in results.iterdir()}
