"""Annealing laws: sums over schedules against their definitions, and fits of simulated curves."""

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

from scaling_fits.estimation.curve_problem import curve_problem, predict_curve
from scaling_fits.estimation.estimators import LeastSquares
from scaling_fits.estimation.multistart import initial_points, spread_starts
from scaling_fits.estimation.problem import float64, row_losses
from scaling_fits.estimation.solver import minimise
from scaling_fits.laws.law import LOG_NEGLIGIBLE
from scaling_fits.laws.learning_curve import AREA, MULTI_POWER, REMAINING_MIN, remaining, tissue
from scaling_fits.laws.schedules import Schedule, cosine, piecewise, schedule_columns, warmup_stable_decay

TISSUE_TRUTH = [0.2, 0.15, 0.5, 0.6]
MULTI_POWER_TRUTH = [0.2, 0.15, 0.5, 40.0, 0.5, 0.6, 0.4]
PEAK, STEPS, WARMUP = 2e-3, 400, 10
STEADY = warmup_stable_decay(PEAK, STEPS, warmup_steps=WARMUP)
COOLED = warmup_stable_decay(PEAK, STEPS, warmup_steps=WARMUP, cooldown_steps=120)
JUMP = piecewise([(1, PEAK), (200, PEAK), (201, 0.3 * PEAK), (STEPS, 0.3 * PEAK)])
STAIRS = piecewise(
    [(1, PEAK)]
    + [(120 + 60 * i + j, PEAK * 0.6 ** (i + j)) for i in range(4) for j in (0, 1)]
    + [(STEPS, PEAK * 0.6**4)]
)


def curves(law, truth, schedules, noise=0.0, seed=0, step=10):
    """Checkpoints from step 20 on of every schedule, with normal noise on ln loss."""
    rng = np.random.default_rng(seed)
    steps = np.arange(20, STEPS + 1, step)
    parts = []
    for name, schedule in schedules.items():
        loss = predict_curve(law, np.array(truth), schedule, steps, blocks=STEPS)[0]
        loss = loss * np.exp(noise * rng.normal(size=len(steps)))
        parts.append(pd.DataFrame({"trunk_id": name, "step": steps, "loss": loss}))
    return pd.concat(parts, ignore_index=True)


def best_fit(law, made, starts=16):
    ends = minimise(made.problem, spread_starts(initial_points(made.problem), starts))
    best = ends.objective_S.argmin()
    return law.published(ends.theta_SxP[best : best + 1], made.references)[0], ends


def tissue_by_definition(rates, warmup, step, constants, decay):
    L0, A, alpha, C = constants
    falls = np.append(0.0, rates[:-1] - rates[1:])
    falls[:warmup] = 0.0
    s2 = sum(falls[k] * decay ** (i - k) for i in range(step) for k in range(i + 1))
    return L0 + A * rates[:step].sum() ** -alpha - C * s2


def multi_power_by_definition(rates, warmup, step, constants):
    L0, A, alpha, B, C, beta, gamma = constants
    total = 0.0
    for k in range(max(warmup, 1), step):
        grown = 1.0 - (C * rates[k] ** -gamma * rates[k:step].sum() + 1.0) ** -beta
        total += (rates[k - 1] - rates[k]) * grown
    return L0 + A * rates[:step].sum() ** -alpha - B * total


@pytest.mark.parametrize("schedule", [COOLED, JUMP, STAIRS, cosine(PEAK, STEPS, warmup_steps=WARMUP)])
def test_both_laws_equal_their_definitions_when_every_fall_is_told(schedule):
    rates, warmup = schedule.rates_T, schedule.warmup_steps
    steps = np.array([60, 260, 400])
    found = predict_curve(tissue(0.99), np.array(TISSUE_TRUTH), schedule, steps, blocks=STEPS)[0]
    expected = [tissue_by_definition(rates, warmup, step, TISSUE_TRUTH, 0.99) for step in steps]
    assert found == pytest.approx(expected, rel=1e-10)
    found = predict_curve(MULTI_POWER, np.array(MULTI_POWER_TRUTH), schedule, steps, blocks=STEPS)[0]
    expected = [multi_power_by_definition(rates, warmup, step, MULTI_POWER_TRUTH) for step in steps]
    assert found == pytest.approx(expected, rel=1e-10)


def test_the_estimated_decay_is_the_given_one_at_its_value():
    steps = np.arange(50, 401, 50)
    given = predict_curve(tissue(0.99), np.array(TISSUE_TRUTH), COOLED, steps)
    estimated = predict_curve(tissue(None), np.array([*TISSUE_TRUTH, 0.01]), COOLED, steps)
    assert estimated == pytest.approx(given, rel=1e-12)
    with pytest.raises(ValueError, match="between 0 and 1"):
        tissue(1.0)


def test_schedules_have_the_rates_of_their_definitions():
    # The trunk's rate times the cool-down's remaining share, as trained: (budget - step) / (budget - branch + 1).
    step = np.arange(STEPS)
    expected = PEAK * np.minimum(1, (step + 1) / WARMUP) * np.minimum(1, (STEPS - step) / 121)
    assert COOLED.rates_T == pytest.approx(expected, rel=1e-12)
    assert len(COOLED.changes) == 120 and len(STEADY.changes) == 0 and JUMP.changes.tolist() == [201]
    rooted = warmup_stable_decay(PEAK, STEPS, cooldown_steps=99, shape="1-sqrt").rates_T
    assert rooted[-1] == pytest.approx(PEAK * (1 - np.sqrt(0.99))) and rooted[300] == PEAK
    wave = cosine(PEAK, STEPS, warmup_steps=WARMUP, final=0.1).rates_T
    assert wave[-1] == pytest.approx(0.1 * PEAK) and wave[WARMUP + 194] == pytest.approx(0.55 * PEAK, rel=1e-9)
    for wrong, message in (
        (lambda: Schedule(np.array([1.0, -1.0])), "learning rate >= 0"),
        (lambda: Schedule(np.ones(3), 3), "warm-up of 3"),
        (lambda: piecewise([(2, 1.0), (3, 1.0)]), "begin at step 1"),
        (lambda: warmup_stable_decay(1.0, 10, cooldown_steps=11), "exceed 10 steps"),
        (lambda: warmup_stable_decay(1.0, 10, shape="cosine"), "'1-sqrt'"),
        (lambda: schedule_columns(STEADY, np.array([401])), "step 401"),
    ):
        with pytest.raises(ValueError, match=message):
            wrong()


@pytest.mark.parametrize(
    ("schedule", "coarse", "allowed"),
    [
        (cosine(1e-3, 20_000, warmup_steps=500), True, 5e-4),
        (warmup_stable_decay(1e-3, 4_700, warmup_steps=4, cooldown_steps=1_175), True, 1e-3),
        (warmup_stable_decay(1e-3, 4_700, warmup_steps=4, cooldown_steps=1_175, shape="1-sqrt"), True, 4e-3),
        (warmup_stable_decay(1e-3, 400, warmup_steps=4, cooldown_steps=24), False, 0.0),
        (STAIRS, False, 0.0),
    ],
)
def test_blocks_err_by_no_more_than_they_say(schedule, coarse, allowed):
    steps = np.linspace(len(schedule.rates_T) // 2, len(schedule.rates_T), 7).round()
    columns, error = schedule_columns(schedule, steps)
    assert columns["drop"].shape == (7, 24) and (error > 0) == coarse and error <= allowed
    exact, none = schedule_columns(schedule, steps, blocks=len(schedule.rates_T))
    assert none == 0.0
    assert columns["drop"].sum(axis=1) == pytest.approx(exact["drop"].sum(axis=1), rel=1e-9)
    s2, s2_exact = ((c["drop"] * (1 - 0.999 ** c["age"])).sum(axis=1) for c in (columns, exact))
    assert s2 == pytest.approx(s2_exact, rel=1.05 * error + 1e-9)


def test_the_logarithm_of_a_negative_loss_is_continued_smoothly():
    slope = jax.grad(remaining)
    both = jax.jit(jax.vmap(lambda share: (remaining(share), slope(share), jax.grad(slope)(share))))
    edge = 1.0 - REMAINING_MIN
    share = np.concatenate([np.linspace(-50.0, 0.9, 50), [edge - 1e-9, edge + 1e-9], [1.0, 2.0, 1e6, 1e12]])
    with float64():
        value, first, second = (np.asarray(found) for found in both(jnp.asarray(share)))
    assert value[:50] == pytest.approx(np.log1p(-share[:50]), rel=1e-12)
    for found in (value, first, second):
        assert found[50] == pytest.approx(found[51], rel=1e-5) and np.isfinite(found).all()
    assert (np.diff(value[50:]) < 0).all() and (first < 0).all() and (second < 0).all()


def test_tissue_constants_are_recovered_and_a_third_schedule_is_predicted():
    law, schedules = tissue(0.99), {"cooled": COOLED, "jump": JUMP}
    made = curve_problem(law, curves(law, TISSUE_TRUTH, schedules, 5e-4), schedules, LeastSquares())
    assert 0.0 < made.block_error < 1e-4 and made.warning is None
    assert len(made.cluster_N) == 78 and np.unique(made.cluster_N).tolist() == [0, 1]
    found, ends = best_fit(law, made)
    assert found == pytest.approx(TISSUE_TRUTH, rel=0.02)
    # Noise of 5e-4 with 4 constants: half the residual sum of squares is 37 × 5e-4^2, ± 16 %.
    assert ends.objective_S.min() == pytest.approx(37 * 5e-4**2, rel=0.6)
    steps = np.arange(50, 401, 25)
    wave = cosine(PEAK, STEPS, warmup_steps=WARMUP)
    predicted, true = (predict_curve(law, np.array(c), wave, steps)[0] for c in (found, TISSUE_TRUTH))
    assert predicted == pytest.approx(true, rel=2e-3)
    # The law without annealing cannot follow: the test can fail.
    area, _ = best_fit(AREA, curve_problem(AREA, made.rows, schedules, LeastSquares()))
    assert np.abs(predict_curve(AREA, area, wave, steps)[0] / true - 1).max() > 0.02


def test_multi_power_constants_are_recovered_and_a_third_schedule_is_predicted():
    schedules = {"jump": JUMP, "stairs": STAIRS}
    table = curves(MULTI_POWER, MULTI_POWER_TRUTH, schedules, step=20)
    made = curve_problem(MULTI_POWER, table, schedules, LeastSquares())
    assert made.problem.x["drop"].shape == (40, 4)
    found, _ = best_fit(MULTI_POWER, made)
    assert found == pytest.approx(MULTI_POWER_TRUTH, rel=1e-3)
    steps = np.arange(50, 401, 25)
    predicted, true = (predict_curve(MULTI_POWER, np.array(c), COOLED, steps)[0] for c in (found, MULTI_POWER_TRUTH))
    assert predicted == pytest.approx(true, rel=1e-4)


@pytest.mark.parametrize(
    ("law", "truth", "free"),
    [(tissue(0.99), TISSUE_TRUTH, ["C"]), (MULTI_POWER, MULTI_POWER_TRUTH, ["B", "C", "beta", "gamma"])],
)
def test_without_annealing_the_constants_of_annealing_are_not_identified(law, truth, free):
    schedules = {"one": STEADY, "two": warmup_stable_decay(2 * PEAK, STEPS, warmup_steps=WARMUP)}
    made = curve_problem(law, curves(AREA, TISSUE_TRUTH[:3], schedules, 1e-3), schedules, LeastSquares())
    assert made.warning.startswith("the learning rate never changes") and ", ".join(free) in made.warning
    low, high = made.problem.bounds
    start = law.working(np.array([truth]), made.references)[0]
    ends = np.tile(start, (2 * len(free), 1))
    for i, name in enumerate(free):
        column = law.names.index(name)
        ends[2 * i, column], ends[2 * i + 1, column] = low[column], high[column]
    objective = row_losses(made.problem, np.concatenate([start[None], ends])).sum(axis=1)
    assert np.ptp(objective) == 0.0
    # With annealing the same moves are seen.
    seen = curve_problem(law, made.rows, {"one": JUMP, "two": STAIRS}, LeastSquares())
    moved = start.copy()
    moved[law.names.index(free[0])] = LOG_NEGLIGIBLE
    assert np.ptp(row_losses(seen.problem, np.stack([start, moved])).sum(axis=1)) > 1e-9


def test_records_and_branching_runs_are_rows_of_their_trunk():
    table = curves(AREA, TISSUE_TRUTH[:3], {"trunk": STEADY}).assign(run_id="trunk")
    run = pd.DataFrame({"trunk_id": ["trunk"], "run_id": ["run"], "step": [STEPS], "loss": [0.25]})
    early = pd.DataFrame({"trunk_id": ["trunk"], "run_id": ["trunk"], "step": [5], "loss": [0.9]})
    table = pd.concat([table, run, early]).assign(records_seen=lambda rows: 64 * rows.step).drop(columns="step")
    schedules = {"trunk": STEADY, "run": COOLED}
    made = curve_problem(AREA, table, schedules, LeastSquares(), schedule="run_id", batch_records=64)
    assert made.left_out == {"in_warmup": 1} and set(made.cluster_N) == {0} and len(made.rows) == 40
    at_end = made.rows["step"] == STEPS
    assert at_end.sum() == 2 and made.rows[at_end]["run_id"].tolist() == ["run", "trunk"]
    areas = np.exp(made.problem.x["S1"] + made.references["S1"])
    assert areas[at_end] == pytest.approx([COOLED.rates_T.sum(), STEADY.rates_T.sum()])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.drop(columns="loss"), r"missing columns \['loss'\]"),
        (lambda t: t.assign(trunk_id="other"), "no schedule for 1"),
        (lambda t: t.assign(loss=np.where(t.step == 50, -1.0, t.loss)), "1 losses are not positive.*step 50"),
        (lambda t: t.assign(loss=np.where(t.step == 50, np.nan, t.loss)), "1 losses are not positive"),
        (lambda t: pd.concat([t, t.iloc[3:4]]), "two points of 'a' at step 50"),
        (lambda t: t.assign(step=t.step + 10), "step 410"),
        (lambda t: t.assign(step=t.step + 0.5).iloc[:3], "whole step"),
        (lambda t: t.assign(step=np.arange(len(t)) / 100), "in the warm-up"),
    ],
)
def test_bad_tables_are_refused_by_name(change, message):
    table = curves(AREA, TISSUE_TRUTH[:3], {"a": STEADY})
    with pytest.raises(ValueError, match=message):
        curve_problem(AREA, change(table), {"a": STEADY}, LeastSquares())


@pytest.mark.long
def test_the_decay_is_estimated_from_two_schedules():
    law, schedules = tissue(None), {"cooled": COOLED, "jump": JUMP}
    table = curves(law, [*TISSUE_TRUTH, 0.01], schedules, 2e-4)
    found, _ = best_fit(law, curve_problem(law, table, schedules, LeastSquares()))
    assert found[:4] == pytest.approx(TISSUE_TRUTH, rel=0.02) and found[4] == pytest.approx(0.01, rel=0.05)
