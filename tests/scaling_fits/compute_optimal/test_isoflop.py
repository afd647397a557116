"""Compute-optimal allocation by approaches 1, 2 and 3: recovery, published values, known bias, refusals."""

import json

import numpy as np
import pandas as pd
import pytest

from benchmarks.fits.coverage_studies import Cell, isoflops
from scaling_fits.compute_optimal.akima import Akima
from scaling_fits.compute_optimal.allocation import chinchilla_optimum, fit_power_law, law_optimum
from scaling_fits.compute_optimal.budgets import assign_budgets
from scaling_fits.compute_optimal.compute import SIX_N_D, Compute, SweepColumns, flops_per_record
from scaling_fits.compute_optimal.envelope import lower_envelope
from scaling_fits.compute_optimal.isoflop import isoflop
from scaling_fits.compute_optimal.parabola import PARABOLA

HOFFMANN = {"E": 1.69, "A": 406.4, "B": 410.7, "alpha": 0.34, "beta": 0.28}
EVEN = {"E": 1.69, "A": 400.0, "B": 400.0, "alpha": 0.31, "beta": 0.31}
BUDGETS = np.geomspace(1e17, 1e21, 5)
ND = SweepColumns("n", "d")


def law(constants, n, d):
    c = constants
    return c["E"] + c["A"] / n ** c["alpha"] + c["B"] / d ** c["beta"]


def grid(constants, *, width=8.0, offset=1.0, sizes=15, noise=0.0, seed=0, budgets=BUDGETS) -> pd.DataFrame:
    """Runs at `sizes` sizes from 1/width to width about offset times the optimum of every budget."""
    rows = []
    for c in budgets:
        n = chinchilla_optimum(constants, c)["N"] * offset * np.geomspace(1 / width, width, sizes)
        d = c / (6 * n)
        rows.append(pd.DataFrame({"n": n, "d": d, "c": c, "loss": law(constants, n, d)}))
    frame = pd.concat(rows, ignore_index=True)
    return frame.assign(loss=frame["loss"] * np.exp(noise * np.random.default_rng(seed).standard_normal(len(frame))))


def test_parabolas_find_the_exponents_of_a_noisy_surface_inside_their_intervals():
    covered = 0
    for seed in range(40):
        found = isoflop(grid(EVEN, noise=0.003, seed=seed, sizes=8), ND)
        low, high = found.size_law.interval
        covered += low <= 0.5 <= high
        assert found.size_law.exponent == pytest.approx(0.5, abs=0.05)
        assert found.size_law.exponent + found.data_law.exponent == pytest.approx(1)
    assert covered >= 35


def test_intervals_of_single_minima_cover_the_true_optimum():
    true = [chinchilla_optimum(EVEN, c)["N"] for c in BUDGETS]
    covered, count = 0, 0
    for seed in range(40):
        for optimum, n in zip(isoflop(grid(EVEN, noise=0.002, seed=seed, sizes=9, width=6), ND).optima, true):
            if optimum.reason is None:
                low, high = optimum.n_interval
                covered, count = covered + ((low or 0) <= n <= (high or np.inf)), count + 1
    assert count > 150 and 0.9 <= covered / count <= 0.99


# Relative error of D* at 1e24 FLOPs of noiseless parabolas at 1e17 … 1e21, 15 sizes each centred on a third of the
# optimum, Open-Athena scaling-law-analysis, experiment 10 (arXiv:2603.22339).
@pytest.mark.parametrize(("width", "percent"), [(4, 5.690942), (8, 3.376108), (16, 0.237881)])
def test_the_bias_of_off_centre_parabolas_on_an_asymmetric_law_is_the_published_one(width, percent):
    found = isoflop(grid(HOFFMANN, width=width, offset=1 / 3), ND)
    # Noiseless minima differ in their residuals; the published line is unweighted.
    line = np.polyfit(np.log(BUDGETS), np.log([optimum.d for optimum in found.optima]), 1)
    error = 100 * (np.exp(np.polyval(line, np.log(1e24))) / chinchilla_optimum(HOFFMANN, 1e24)["D"] - 1)
    assert error == pytest.approx(percent, abs=1e-5)
    assert any("alpha != beta" in note for note in found.notes)


def test_the_bias_of_centred_parabolas_grows_with_the_width_and_moves_the_factor_not_the_exponent():
    true = chinchilla_optimum(HOFFMANN, 1e19)
    errors = []
    for width in (2, 4, 8, 16):
        found = isoflop(grid(HOFFMANN, width=width), ND)
        assert found.size_law.exponent == pytest.approx(true["a"], abs=1e-6)
        errors.append(abs(found.size_law.at(1e19) / true["N"] - 1))
    assert errors == sorted(errors) and errors[-1] > 0.05 > errors[0]
    even = isoflop(grid(EVEN, width=16), ND)
    assert even.size_law.at(1e19) == pytest.approx(chinchilla_optimum(EVEN, 1e19)["N"], rel=1e-6)


def test_curves_that_are_no_parabolas_are_said_to_be_none():
    skewed = isoflop(grid(HOFFMANN, width=30, noise=1e-3), ND)
    assert any("cubic" in note for note in skewed.notes)


def test_parabolas_reproduce_the_published_minima_of_llama_3(scaling_data_dir):
    """Open-Athena analysis/results/isoflop_comparison.md: D* of approach 2 on all 133 runs, a = 0.4632."""
    frame = pd.read_csv(scaling_data_dir / "open_athena_isoflops/isoflops_transform.csv")
    found = isoflop(frame[frame["experiment"] == "llama_3__raw_loss"], SweepColumns("params", "tokens", "budget"))
    published = [4.41e9, 5.14e9, 7.56e9, 1.15e10, 1.53e10, 2.53e10, 4.10e10, 5.46e10, None, 2.38e11]
    for optimum, d in zip(found.optima, published, strict=True):
        if d is None:
            assert "last interval" in optimum.reason
        else:
            assert optimum.d == pytest.approx(d, rel=0.005)
    assert found.size_law.interval[0] < 0.4632 < found.size_law.interval[1]
    assert found.size_law.exponent == pytest.approx(0.4632, abs=0.005)


def test_chinchilla_data_give_the_exponent_of_hoffmann_et_al(scaling_data_dir):
    """Hoffmann et al. 2022, table 2: approach 2 a = 0.49 (0.462 to 0.534)."""
    frame = pd.read_csv(scaling_data_dir / "open_athena_isoflops/isoflops_transform.csv")
    frame = frame[frame["experiment"] == "epochai_chinchilla__massivetext__chinchilla"]
    columns = SweepColumns("params", "tokens", "budget")
    for found in (isoflop(frame, columns), isoflop(frame, columns, method=Akima(0.003))):
        assert found.size_law.exponent == pytest.approx(0.49, abs=0.03)
        assert found.size_law.interval[0] < 0.49 < found.size_law.interval[1]


def test_digitised_flops_fall_into_their_nominal_budgets(scaling_data_dir):
    frame = pd.read_csv(scaling_data_dir / "chinchilla_epoch/svg_extracted_data.csv")
    frame = frame.assign(n=frame["Model Size"], d=frame["Training FLOP"] / (6 * frame["Model Size"]))
    nominal = [6e18, 1e19, 3e19, 6e19, 1e20, 3e20, 6e20, 1e21, 3e21]
    found = isoflop(frame, SweepColumns("n", "d", "Training FLOP"), budgets=nominal, tolerance=0.15)
    rows = sum(optimum.runs for optimum in found.optima) + sum(found.excluded.values())
    assert rows == len(frame) == 245
    assert found.excluded["off_budget"] > 50
    assert found.size_law.interval[0] < 0.5126 < found.size_law.interval[1]  # Besiroglu et al.: beta / (alpha + beta)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"sizes": 3}, "3 distinct sizes, 4 needed"),
        ({"offset": 40.0, "width": 4}, "outside the sizes"),
        ({"offset": 7.5}, "first interval"),
        ({"offset": 1 / 7.5}, "last interval"),
        ({"noise": 0.3, "width": 1.5}, None),
    ],
)
def test_what_the_sizes_do_not_bracket_is_refused(options, words):
    found = isoflop(grid(EVEN, **{"sizes": 9, **options}), ND)
    assert found.size_law is None and "3 needed" in found.reason
    for optimum in found.optima:
        assert optimum.reason is not None and optimum.n is None and optimum.d is None
        assert words is None or words in optimum.reason
    assert "refused" in str(found) and "no power law" in str(found)


def test_concave_curves_are_refused():
    frame = grid(EVEN)
    found = isoflop(frame.assign(loss=5 - frame["loss"]), ND)
    assert all("concave" in optimum.reason for optimum in found.optima)


def test_two_good_budgets_make_no_law():
    found = isoflop(grid(EVEN, noise=1e-3, budgets=BUDGETS[:2]), ND)
    assert len(found.accepted) == 2 and found.size_law is None and "2 of 2 budgets" in found.reason


def test_one_budget_that_is_far_better_known_does_not_hide_the_scatter_of_the_others():
    value = np.exp(0.5 * np.log(BUDGETS) + np.array([0.3, -0.3, 0.2, -0.3, 0.2]))
    tight = fit_power_law("N*", BUDGETS, value, np.diag([1e-8, 1e-8, 1e-2, 1e-2, 1e-2]))
    assert tight.extra_sd > 0.2 and tight.interval[0] < 0.5 < tight.interval[1]
    low, high = tight.interval_at(1e24)
    assert low < tight.at(1e24) < high and high / low > np.divide(*tight.interval_at(1e19)[::-1])


def test_akima_minima_agree_with_the_law_and_are_refused_at_the_edge():
    frame = pd.concat([grid(HOFFMANN, noise=0.002, seed=seed, sizes=9) for seed in range(3)], ignore_index=True)
    found = isoflop(frame, ND, method=Akima(draws=300))
    assert found.size_law.interval[0] < chinchilla_optimum(HOFFMANN, 1e19)["a"] < found.size_law.interval[1]
    assert all(optimum.residual_sd == pytest.approx(0.002, rel=0.3) for optimum in found.optima)
    for optimum, c in zip(found.optima, BUDGETS):
        assert optimum.n == pytest.approx(chinchilla_optimum(HOFFMANN, c)["N"], rel=0.6)
    edge = isoflop(grid(HOFFMANN, offset=20), ND, method=Akima(1e-3, 100))
    assert all("edge" in optimum.reason for optimum in edge.optima)
    with pytest.raises(ValueError, match="give noise_sd"):
        isoflop(grid(HOFFMANN), ND, method=Akima())


def test_clusters_that_share_noise_widen_the_interval_of_the_prediction():
    frame = grid(EVEN, sizes=10)
    frame["trunk"] = np.tile(np.arange(10), len(BUDGETS))
    shared = np.random.default_rng(3).standard_normal(10)
    frame["loss"] *= np.exp(0.004 * shared[frame["trunk"]])
    alone, together = isoflop(frame, ND), isoflop(frame, SweepColumns("n", "d", cluster="trunk"))
    width = [np.log(np.divide(*found.size_law.interval_at(1e19)[::-1])) for found in (alone, together)]
    assert width[1] > 1.5 * width[0]
    assert together == isoflop(frame, SweepColumns("n", "d", cluster="trunk"))


def test_flops_are_sorted_into_budgets_up_to_rounding():
    c = np.array([1.02e18, 0.97e18, 1e18, 3.1e18, 2.95e18, 9e18])
    found = assign_budgets(c)
    assert np.unique(found).size == 3 and np.unique(found[:3]).size == 1
    assert found[0] == pytest.approx((1.02 * 0.97) ** (1 / 3) * 1e18)
    assert list(assign_budgets(c, budgets=[3e18, 1e18])[:5]) == [1e18, 1e18, 1e18, 3e18, 3e18]
    assert np.isnan(assign_budgets(c, budgets=[3e18, 1e18])[5])
    with pytest.raises(ValueError, match="no separate budgets"):
        assign_budgets(np.geomspace(1e18, 1e20, 100))


def test_duplicates_are_named_and_rows_left_out_are_counted():
    frame = grid(EVEN, noise=1e-3).assign(run_id=lambda f: [f"run{i:02d}" for i in range(len(f))])
    again = frame.iloc[[3, 4]].assign(run_id=["again3", "seed4"])
    again.loc[4, "loss"] *= 1.001
    off = frame.iloc[[0]].assign(run_id="odd", d=lambda f: 3 * f["d"])
    lost = frame.iloc[[0]].assign(run_id="lost", loss=np.nan)
    everything = pd.concat([frame, again, off, lost], ignore_index=True)
    found = isoflop(everything, ND, budgets=BUDGETS)
    assert found.excluded == {"not_finite": 1, "exact_duplicate": 1, "off_budget": 1}
    notes = " ".join(found.notes)
    assert "again3" in notes or "run03" in notes
    assert "1 rows given twice" in notes and "1 rows replicates" in notes and "seed4" in notes
    assert found.optima[0].runs == 16 and found.optima[0].sizes == 15


def test_compute_is_a_column_or_arithmetic_of_columns_or_a_function_and_is_named():
    frame = grid(EVEN, noise=1e-3).assign(per=lambda f: 6 * f["n"])
    ways = ["c", "per * d", SIX_N_D, flops_per_record("6 ", lambda n: 6 * n)]
    found = [isoflop(frame, SweepColumns("n", "d", way)) for way in ways]
    assert [one.definition["C"] for one in found] == [
        "column 'c'", "per * d (computed from columns)", "6 N D", "6 (N) D",
    ]  # fmt: skip
    for one in found:
        assert one.size_law.exponent == pytest.approx(found[0].size_law.exponent, rel=1e-9)
    with pytest.raises(ValueError, match="neither a column nor arithmetic"):
        isoflop(frame, SweepColumns("n", "d", "flop"))
    with pytest.raises(ValueError, match="must be positive, but 75 rows"):
        isoflop(frame, SweepColumns("n", "d", "per * d * -1"))


def test_outputs_are_plain_text_and_json_without_nan():
    frame = pd.concat([grid(EVEN, noise=2e-3), grid(EVEN, sizes=3, budgets=[1e22])], ignore_index=True)
    found = isoflop(frame, ND)
    back = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert back["size_law"]["exponent"] == found.size_law.exponent
    assert back["optima"][5]["reason"].startswith("3 distinct sizes") and back["optima"][5]["n"] is None
    text = str(found)
    assert "N* =" in text and "intervals at 95 %" in text and "refused" in text


@pytest.mark.parametrize("method", [PARABOLA, Akima(1e-3, 50)], ids=["parabola", "akima"])
def test_the_fitted_curves_are_given_with_their_runs(method):
    frame = pd.concat([grid(HOFFMANN, noise=1e-3, seed=seed, sizes=7) for seed in (0, 1)])
    frame = pd.concat([frame, grid(HOFFMANN, sizes=3, budgets=[1e22])]).sample(frac=1, random_state=0)
    frame["run_id"] = [f"run{i}" for i in range(len(frame))]
    found = isoflop(frame, ND, method=method)
    named = frame.set_index("run_id")
    assert sorted(run for curve in found.curves for run in curve.runs) == sorted(named.index)
    for optimum, curve in zip(found.optima, found.curves, strict=True):
        assert curve.budget == optimum.budget and list(curve.run_n) == sorted(curve.run_n)
        np.testing.assert_allclose(curve.run_n, named.loc[list(curve.runs), "n"])
        np.testing.assert_allclose(curve.run_loss, named.loc[list(curve.runs), "loss"])
        if curve.budget > 9e21:
            assert curve.n == curve.loss == () and "3 distinct sizes" in optimum.reason
            continue
        assert (curve.n[0], curve.n[-1]) == pytest.approx((curve.run_n[0], curve.run_n[-1]))
        lowest = int(np.argmin(curve.loss))
        assert curve.loss[lowest] == pytest.approx(optimum.loss, rel=1e-3)
        if method is PARABOLA:
            assert curve.n[lowest - 1] < optimum.n < curve.n[lowest + 1]
            bend = np.diff(curve.loss, 2)
            np.testing.assert_allclose(bend, bend[0], rtol=1e-6)
        else:  # through the means of both seeds at every size
            means = np.log(curve.run_loss).reshape(-1, 2).mean(axis=1)
            sizes = np.log(curve.run_n)[::2]
            np.testing.assert_allclose(np.interp(sizes, np.log(curve.n), np.log(curve.loss)), means, atol=2e-4)


def curves(constants, sizes, *, reach=200.0, seeds=1, noise=0.0) -> pd.DataFrame:
    rows = []
    generator = np.random.default_rng(1)
    for n in sizes:
        for seed in range(seeds):
            d = n * np.geomspace(0.2, reach, 60)
            loss = law(constants, n, d) * np.exp(noise * generator.standard_normal(len(d)))
            rows.append(pd.DataFrame({"run_id": f"{n:.3g}/{seed}", "n": n, "d": d, "loss": loss}))
    return pd.concat(rows, ignore_index=True)


@pytest.mark.parametrize(("seeds", "noise"), [(1, 0.0), (2, 0.002)])
def test_the_envelope_of_curves_finds_the_exponents(seeds, noise):
    frame = curves(HOFFMANN, np.geomspace(1e7, 1e10, 25), seeds=seeds, noise=noise)
    found = lower_envelope(frame, ND, replicates=100)
    true = chinchilla_optimum(HOFFMANN, 1e19)
    assert found.size_law.exponent == pytest.approx(true["a"], abs=0.03)
    assert found.size_law.interval[0] < true["a"] < found.size_law.interval[1]
    assert found.data_law.exponent == pytest.approx(true["b"], abs=0.03)
    middle = found.accepted[len(found.accepted) // 2]
    assert middle.n == pytest.approx(chinchilla_optimum(HOFFMANN, middle.budget)["N"], rel=0.35)
    json.dumps(found.to_dict(), allow_nan=False)


def test_sizes_at_the_edge_of_an_envelope_are_refused():
    found = lower_envelope(curves(HOFFMANN, [1e8, 2e8, 4e8]), ND, replicates=10)
    assert found.size_law is None and "1 sizes are lowest between" in found.reason
    assert [optimum.reason is None for optimum in found.optima] == [False, True, False]


def test_a_curve_has_one_size():
    frame = curves(HOFFMANN, [1e8, 2e8, 4e8]).assign(run_id="same")
    with pytest.raises(ValueError, match="'same' has 3 values of 'n'"):
        lower_envelope(frame, ND)


def test_the_numeric_minimum_of_a_law_is_the_closed_form():
    found = law_optimum(lambda N, D: law(HOFFMANN, N, D), BUDGETS, (1e4, 1e13))
    for optimum, c in zip(found.optima, BUDGETS):
        exact = chinchilla_optimum(HOFFMANN, c)
        assert optimum.n == pytest.approx(exact["N"], rel=1e-4) and optimum.d == pytest.approx(exact["D"], rel=1e-4)
        assert 6 * optimum.n * optimum.d == pytest.approx(c, rel=1e-9)
    assert found.size_law.exponent == pytest.approx(0.28 / 0.62, abs=1e-5)
    assert found.size_law.interval is None and "no draws" in found.notes[0]


def test_published_constants_give_the_published_exponent():
    """Besiroglu et al. 2024 (arXiv:2404.10102): constants with a = beta / (alpha + beta) = 0.513."""
    constants = {"A": 482.01, "B": 2085.43, "alpha": 0.3478, "beta": 0.3658}
    assert chinchilla_optimum(constants, 1e21)["a"] == pytest.approx(0.513, abs=5e-4)


def test_other_flops_are_used_up_exactly_and_move_the_optimum():
    dear = Compute("(6 N + 1e9) D + 50 N", lambda n, d: (6 * n + 1e9) * d + 50 * n)
    (optimum,) = law_optimum(lambda N, D: law(HOFFMANN, N, D), [1e19], (1e6, 1e12), compute=dear).optima
    assert dear.flops(optimum.n, optimum.d) == pytest.approx(1e19, rel=1e-9)
    assert optimum.n > 1.1 * chinchilla_optimum(HOFFMANN, 1e19)["N"]


def test_draws_of_a_law_give_intervals_of_minima_and_exponents():
    generator = np.random.default_rng(0)
    exponents = 0.34 + 0.01 * generator.standard_normal(400)

    def draws(N, D):
        return np.stack([law({**HOFFMANN, "alpha": alpha}, N, D) for alpha in exponents])

    found = law_optimum(lambda N, D: law(HOFFMANN, N, D), BUDGETS, (1e5, 1e12), predict_draws=draws)
    expected = np.quantile(0.28 / (0.28 + exponents), [0.025, 0.975])
    assert found.size_law.interval == pytest.approx(tuple(expected), abs=1e-3)
    exact = [chinchilla_optimum({**HOFFMANN, "alpha": alpha}, BUDGETS[2])["N"] for alpha in exponents]
    assert found.optima[2].n_interval == pytest.approx(tuple(np.quantile(exact, [0.025, 0.975])), rel=0.01)
    assert found.optima[2].log_n_sd == pytest.approx(np.log(exact).std(), rel=0.02)


@pytest.mark.parametrize(("sizes", "side"), [((1e4, 1e6), "largest"), ((1e11, 1e13), "smallest")])
def test_an_optimum_at_the_edge_of_the_search_is_refused(sizes, side):
    found = law_optimum(lambda N, D: law(HOFFMANN, N, D), [1e19, 1e20], sizes)
    assert all(side in optimum.reason for optimum in found.optima)
    assert found.size_law is None and "0 of 2 budgets" in found.reason


def test_draws_that_mostly_leave_the_search_refuse_the_optimum():
    def draws(N, D):
        return np.stack([law(HOFFMANN, N, D)] + [1 / N + 0 * D] * 3)

    found = law_optimum(lambda N, D: law(HOFFMANN, N, D), [1e19], (1e6, 1e12), predict_draws=draws)
    assert "75 % of the draws" in found.optima[0].reason


@pytest.mark.parametrize("correlation", [0.0, 0.9])
def test_intervals_cover_where_budgets_share_trunks(correlation):
    found = {tally.quantity: tally for tally in isoflops(Cell(8, correlation), 60, seed=1)}
    assert 0.9 < found["N* of a budget"].held / found["N* of a budget"].printed < 0.99
    assert found["exponent of N*"].held >= 54  # of 60; 57 expected


def test_four_trunks_of_one_size_each_do_not_share_their_noise_as_if_it_were_more():
    frame = grid(EVEN, noise=4e-3, sizes=4)
    together = isoflop(frame.assign(trunk=np.tile(np.arange(4), len(BUDGETS))), SweepColumns("n", "d", cluster="trunk"))
    alone = isoflop(frame, ND)
    widths = [[np.log(high / low) for low, high in (one.n_interval for one in found.accepted) if low and high]
              for found in (alone, together)]  # fmt: skip
    # One degree of freedom per budget, where 15 pooled ones would be five times as sure; or no minimum at all.
    assert len(widths[1]) < len(widths[0]) or np.median(widths[1]) > 2 * np.median(widths[0])
