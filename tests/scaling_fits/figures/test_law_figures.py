"""Figures of laws hold in their table what they draw, mark what was refused or left out, and fit the page."""

from functools import cache

import numpy as np
import pandas as pd
import pytest
from matplotlib.text import Text
from support.exported_tables import exported

from scaling_fits.__main__ import main
from scaling_fits.compute_optimal.allocation import Optimum, chinchilla_optimum, law_optimum
from scaling_fits.compute_optimal.compute import SweepColumns
from scaling_fits.compute_optimal.isoflop import isoflop
from scaling_fits.convergence.times import add_axes, records_to_target
from scaling_fits.estimation.estimators import LeastSquares
from scaling_fits.estimation.multistart import Search
from scaling_fits.figures.diagnostic_figures import profiles, residuals
from scaling_fits.figures.law_figures import contours, loss_against, loss_against_compute, mix_curves
from scaling_fits.figures.look import Look
from scaling_fits.figures.optimum_figures import exchange_rates, isoflop_figure, isoflops, optima_table
from scaling_fits.figures.run_figures import loss_against_size, target_times
from scaling_fits.figures.style import Width, save_figure, short
from scaling_fits.fit import fit
from scaling_fits.laws.data_mix import COMMON_RATE
from scaling_fits.laws.size_and_data import CHINCHILLA, power_law
from scaling_fits.mixing.best_mix import ExchangeRate
from scaling_fits.mixing.queries import Estimate
from scaling_fits.tables.run_table import read_runs, seed_summary
from scaling_fits.uncertainty.bootstrap import Bootstrap

SIZES, BUDGETS = (3e4, 1e5, 3e5, 1e6), (4e3, 1.6e4, 6.4e4)


@cache
def runs():
    rng = np.random.default_rng(0)
    rows = [(n, d, s, 0.2 + 4 / n**0.4 + 12 / d**0.5) for n in SIZES for d in BUDGETS for s in range(2)]
    frame = pd.DataFrame(rows, columns=["n_params", "records_seen", "seed", "loss"])
    frame["loss"] *= np.exp(rng.normal(0, 0.01, len(frame)))
    frame["run_id"] = [f"run{i:02d}" for i in range(len(frame))]
    frame["trunk_id"] = frame["n_params"].astype(str) + "_" + frame["seed"].astype(str)
    frame["real_fraction"] = 0.0
    frame["exclusion"] = ""
    frame.loc[[3, 8], "exclusion"] = "wrong learning rate"
    frame.loc[[3, 8], "loss"] *= 1.3
    return read_runs(exported(frame))


@cache
def law():
    return fit(CHINCHILLA, runs(), bootstrap=Bootstrap(60), search=Search(starts=32), profiles=False)


@cache
def mixture():
    rng = np.random.default_rng(1)
    rows = []
    for n in (3e4, 3e5):
        for r in (0.0, 0.1, 0.5, 1.0):
            for d in (4e3, 6.4e4):
                effective = r * d + 0.4 * (1 - r) * d
                loss = 0.1 + 0.05 * (r == 0) + 4 / n**0.4 + 12 / effective**0.5
                rows.append((n, d, r, 7e4 if r > 0 else 0.0, loss * np.exp(rng.normal(0, 0.02))))
    columns = ["n_params", "records_seen", "real_fraction", "unique_real_records", "loss"]
    return fit(
        COMMON_RATE,
        pd.DataFrame(rows, columns=columns),
        bootstrap=Bootstrap(40),
        search=Search(starts=32),
        profiles=False,
    )


@cache
def line():
    """A law without a floor, so that the floor fitted is open from below."""
    n = np.geomspace(1e4, 1e6, 8)
    loss = 4 / n**0.3 * np.exp(np.random.default_rng(2).normal(0, 0.02, len(n)))
    rows = pd.DataFrame({"n_params": n, "loss": loss})
    return fit(power_law("N"), rows, estimator=LeastSquares(), bootstrap=Bootstrap(0), search=Search(starts=16))


def minima():
    curve = pd.DataFrame({"n": np.geomspace(1e4, 1e6, 9)})
    tables = [
        curve.assign(budget=c, loss=2 - 0.3 * k + 0.1 * np.log(curve["n"] / m) ** 2) for k, (c, m) in enumerate(BOWLS)
    ]
    points = pd.concat(tables, ignore_index=True)
    found = pd.DataFrame({"budget": [c for c, _ in BOWLS], "n": [m for _, m in BOWLS], "loss": [2.0, 1.7, np.nan]})
    found = found.assign(
        n_low=[5e4, 8e4, np.nan], n_high=[1e5, np.nan, np.nan], reason=["", "", "at the edge of the sizes"]
    )
    return points, found


BOWLS = ((1e18, 7e4), (1e19, 1.5e5), (1e20, 1e6))


def rates(low=0.2):
    at = [(n, r) for n in SIZES for r in (0.1, 0.5)]
    made = []
    for n, r in at:
        worth = Estimate(0.4 * (n / 1e5) ** -0.2, (low, 0.9))
        where = {"N": n, "R": r * 1e4, "S": (1 - r) * 1e4, "U": 1e4}
        made.append(ExchangeRate(where, worth, worth, worth, worth, 0.0, 0.95, ()))
    return made


def times():
    seen = np.geomspace(500, 6.4e4, 20)
    made = [(n, r) for n in SIZES for r in (0.0, 1.0)]
    curves = [
        pd.DataFrame({"trunk_id": f"{n:g}/{r:g}", "records_seen": seen, "loss": 0.1 + 0.1 * (r == 0) + 10 / seen**0.5})
        for n, r in made
    ]
    axes = pd.DataFrame(made, columns=["n_params", "real_fraction"]).assign(records_seen=6.4e4, loss=0.2, seed=0)
    axes["trunk_id"] = axes["run_id"] = [f"{n:g}/{r:g}" for n, r in made]
    return add_axes(records_to_target(pd.concat(curves), 0.22), read_runs(axes))


@cache
def figures():
    points, found = minima()
    return {
        "N": loss_against(law(), "N", table=runs(), until=1e7),
        "D": loss_against(law(), "D", look=Look(Width.MIDDLE)),
        "C": loss_against_compute(law(), table=runs(), until=1e13),
        "plane": contours(law()),
        "residuals": residuals(law()),
        "profiles": profiles(line(), points=9),
        "isoflop": isoflops(points, found, curves=points),
        "exchange": exchange_rates(rates()),
        "times": target_times(times()),
    }


def drawn_points(figure):
    """Every vertex of every visible line, rounded, by the label of its panel."""
    found = {}
    for axes in figure.axes:
        for line in axes.lines:
            xy = np.column_stack([np.asarray(v, dtype=float) for v in line.get_data()])
            found.setdefault(axes.get_label(), set()).update(map(tuple, np.round(xy, 9)))
    return found


def check_table(name, figure, data):
    drawn = drawn_points(figure)
    kept = data[data["y"].notna()]
    assert len(kept) > 5, name
    for panel, rows in kept.groupby("panel"):
        rows = rows[rows["layer"] != "law"] if name == "plane" else rows  # contours are no lines
        missing = set(map(tuple, np.round(rows[["x", "y"]].to_numpy(dtype=float), 9))) - drawn[panel]
        assert not missing, (name, panel, list(missing)[:3])
    assert {"panel", "layer", "series", "x_quantity", "x", "y_quantity", "y"} <= set(data), name


def test_the_table_holds_what_is_drawn():
    for name, (figure, data) in figures().items():
        check_table(name, figure, data)


def test_every_row_of_the_fit_is_drawn_with_its_name_and_value():
    for name in ("N", "D", "C", "plane"):
        rows = figures()[name][1].query("layer == 'row'")
        assert sorted(rows["name"]) == sorted(law().observations.row_names_N)
    rows = figures()["D"][1].query("layer == 'row'").set_index("name")
    table = runs().rows.set_index("run_id")
    np.testing.assert_allclose(rows["measured"], table.loc[rows.index, "loss"])
    np.testing.assert_allclose(rows["y"], rows["measured"])  # a grid: no row needs moving


def test_rows_between_the_lines_are_moved_along_the_law_and_it_is_said():
    figure, data = loss_against(law(), "N", at=[{"D": 1e4}])
    rows = data.query("layer == 'row'").set_index("name").loc[law().observations.row_names_N]
    assert not np.allclose(rows["y"], rows["measured"])
    np.testing.assert_allclose(np.log(law().predict(N=rows["x"], D=1e4) / rows["y"]), law().residuals, rtol=1e-6)
    assert "moved along the law" in figure.legends[0].get_title().get_text()


def check_band(data):
    law_rows = data[data["layer"].isin(["law", "law beyond data"])].drop_duplicates(["panel", "series", "x"])
    band = data[data["layer"] == "law interval"].drop(columns="y")
    both = law_rows[["panel", "series", "x", "y"]].merge(band, on=["panel", "series", "x"])
    assert len(both) == len(band) > 50
    assert ((both["low"] < both["y"]) & (both["y"] < both["high"])).mean() > 0.9


def test_bands_contain_the_law_nearly_everywhere():
    for name in ("N", "D"):
        check_band(figures()[name][1])


@pytest.mark.long
def test_mix_curves_hold_what_they_draw_with_pure_synthetic_apart():
    figure, data = mix_curves(mixture())
    check_table("mix", figure, data)
    check_band(data)
    check_words("mix", figure)
    assert data.loc[data["layer"] == "law", "x"].min() > 0
    pure = data[data["layer"] == "law at r = 0"]
    sizes = {f"N = {short(n)}": n for n in (3e4, 3e5)}
    for row in pure.itertuples():
        total = 4e3 if "4k" in row.panel.split("=")[1].split()[0] and "64k" not in row.panel else 6.4e4
        assert row.y == pytest.approx(float(mixture().predict(N=sizes[row.series], R=0.0, S=total, U=0.0)))
        assert row.low < row.y < row.high
    assert sorted(data.loc[data["layer"] == "row", "name"]) == sorted(mixture().observations.row_names_N)


def test_excluded_rows_are_hollow_and_named():
    figure, data = figures()["N"]
    left_out = data[data["layer"] == "excluded"]
    assert set(left_out["name"]) == {"run03", "run08"} and set(left_out["series"]) == {"wrong learning rate"}
    hollow = [line for line in figure.axes[0].lines if line.get_markerfacecolor() == "none"]
    assert sum(len(line.get_xdata()) for line in hollow) == 2
    assert {"run03", "run08"} <= {text.get_text() for text in figure.axes[0].texts}


def test_refused_minima_are_marked_and_open_ends_are_arrows():
    figure, data = figures()["isoflop"]
    refused = data[data["layer"] == "refused"]
    assert list(refused["series"]) == [f"C = {short(1e20)}"] and list(refused["name"]) == ["at the edge of the sizes"]
    assert "at the edge of the sizes" in figure.legends[0].get_title().get_text()
    assert set(data.loc[data["layer"] == "minimum", "series"]) == {f"C = {short(c)}" for c, _ in BOWLS[:2]}
    arrows = data[data["layer"] == "open end"]
    assert len(arrows) == 2 and (arrows["series"] == f"C = {short(1e19)}").all()
    points, found = minima()
    closed = isoflops(points, found.assign(reason="refused"))[1]
    assert not set(closed["layer"]) & {"minimum", "open end"}


def test_the_isoflop_table_holds_runs_fitted_curves_and_the_law(tmp_path, capsys):
    rows = [
        (f"{c:g}/{k}", n, c / (6 * n), 2 - 0.1 * i + 0.05 * np.log(n / best) ** 2 + 1e-3 * (-1) ** k)
        for i, (c, best) in enumerate([(1e15, 1e5), (1e16, 3e5), (1e17, 9e5)])
        for k, n in enumerate(best * np.geomspace(1 / 8, 8, 7))
    ]
    sweep = pd.DataFrame(rows, columns=["run_id", "params", "tokens", "loss"])
    sweep.to_csv(tmp_path / "sweep.csv", index=False)
    words = ["isoflop", str(tmp_path / "sweep.csv"), "--n", "params", "--d", "tokens"]
    assert main([*words, "--figure", str(tmp_path / "fig")]) == 0
    assert "wrote fig.pdf, fig.png, fig.csv" in capsys.readouterr().out
    found = isoflop(sweep, SweepColumns("params", "tokens"))
    figure, data = isoflop_figure(found)
    check_table("isoflop", figure, data)
    assert sorted(data.query("layer == 'row'")["name"]) == sorted(sweep["run_id"])
    for curve in found.curves:
        drawn = data[(data["layer"] == "curve") & (data["series"] == f"C = {short(curve.budget)}")]
        np.testing.assert_allclose(drawn[["x", "y"]], np.transpose([curve.n, curve.loss]))
    assert len(data.query("layer == 'minimum' and panel == 'optimum'")) == 3
    assert {"law", "law interval"} <= set(data["layer"])
    written = pd.read_csv(tmp_path / "fig.csv")
    assert written["layer"].value_counts().to_dict() == data["layer"].value_counts().to_dict()
    with pytest.raises(ValueError, match="needs approach 2"):
        isoflop_figure(law_optimum(lambda N, D: 1 / N + 1 / D, [1e10, 1e11], (1.0, 1e9)))


def test_optima_become_a_table_with_open_ends_and_reasons():
    table = optima_table([Optimum(1e18, 2e5, (1e5, None), d=1e6, loss=2.0), Optimum(1e19, reason="concave")])
    assert table["n_low"].iloc[0] == 1e5 and np.isnan(table["n_high"].iloc[0])
    assert list(table["reason"]) == ["", "concave"] and np.isnan(table["n"].iloc[1])


def test_an_unidentified_constant_has_arrows_instead_of_ends():
    figure, data = figures()["profiles"]
    intervals = {one.name: one for one in line().profiles}
    assert intervals["E"].low is None and intervals["E"].high is not None and intervals["alpha"].identified
    for name in ("E", "alpha"):
        rows = data[data["panel"] == name].set_index("layer")
        assert ("open end" in rows.index) == (name == "E")
        assert rows.loc["interval from above", "x"].unique() == [intervals[name].high]
        profile = rows.loc[["profile"]].set_index("x")["y"]
        assert profile[intervals[name].high] == 1 and profile[intervals[name].estimate] == 0
        assert profile.index.is_monotonic_increasing
    titles = {axes.get_label(): axes.get_title() for axes in figure.axes}
    assert f"(< {short(intervals['E'].high)})" in titles["E"]
    with pytest.raises(ValueError, match="profiles=True"):
        profiles(law(), ["E"])


def test_censored_trunks_are_hollow_with_arrows_and_no_mean_runs_through_them():
    data = figures()["times"][1]
    censored = data[data["layer"] == "not_reached"]
    assert set(censored["series"]) == {"r = 0"} and len(censored) == len(SIZES)
    arrows = data[data["layer"] == "not_reached arrow"]
    assert (arrows["y_end"] > arrows["y"]).all() and len(arrows) == len(censored)
    assert set(data.loc[data["layer"] == "geometric mean", "series"]) == {"r = 1"}


def test_the_influential_rows_are_ringed_and_listed():
    data = figures()["residuals"][1]
    named = [one.row for one in law().identifiability.influential]
    assert list(data.loc[data["layer"] == "influence", "name"]) == named
    assert set(data.loc[data["layer"] == "influential", "name"]) == set(named)
    np.testing.assert_array_equal(data.query("layer == 'row' and panel == 'N'")["y"], law().residuals)


def test_the_compute_optimal_line_is_that_of_the_closed_form():
    line = figures()["plane"][1].query("layer == 'compute-optimal'")
    for n, d in line[["x", "y"]].to_numpy(dtype=float):
        assert n == pytest.approx(chinchilla_optimum(law().parameters, 6 * n * d)["N"], rel=1e-3)


def test_marks_against_compute_carry_their_own_size_and_lines_are_at_sizes_of_the_table():
    data = figures()["C"][1]
    sizes = {f"N = {short(size)}" for size in SIZES}
    assert set(data.loc[data["layer"] == "law", "series"]) == sizes
    own = dict(zip(law().observations.row_names_N, law().observations.values["N"]))
    for row in data.query("layer == 'row'").itertuples():
        assert row.series == f"N = {short(own[row.name])}"
    some = loss_against_compute(law(), sizes=SIZES[1:3])[1].query("layer == 'row'")
    assert len(some) == len(own) and set(some["series"]) == {*sorted(sizes)} - {
        f"N = {short(SIZES[0])}",
        f"N = {short(SIZES[3])}",
    } | {"other sizes"}
    assert {own[name] for name in some.loc[some["series"] == "other sizes", "name"]} == {SIZES[0], SIZES[3]}


def test_five_lines_are_drawn_of_many_sizes():
    rows = [(n, d, 0.2 + 4 / n**0.4 + 12 / d**0.5) for n in np.geomspace(1e4, 1e6, 12) for d in (1e4, 1e5)]
    frame = pd.DataFrame(rows, columns=["n_params", "records_seen", "loss"])
    data = loss_against_compute(
        fit(CHINCHILLA, frame, bootstrap=Bootstrap(0), search=Search(starts=32), profiles=False)
    )[1]
    lines = data.loc[data["layer"] == "law", "series"].unique()
    assert len(lines) == 5 and set(lines) <= {f"N = {short(size)}" for size in frame["n_params"]}
    assert (data.loc[data["layer"] == "row", "series"] == "other sizes").sum() == 2 * 7


def test_rates_at_or_below_zero_are_drawn_on_a_linear_axis():
    assert exchange_rates(rates())[0].axes[0].get_yscale() == "log"
    assert exchange_rates(rates(low=-0.1), "share")[0].axes[0].get_yscale() == "linear"
    with pytest.raises(ValueError, match="'N' or 'share'"):
        exchange_rates(rates(), "D")


def check_words(name, figure):
    renderer, page = figure.canvas.get_renderer(), figure.bbox
    shown = []
    for text in figure.findobj(Text):
        box = Text.get_window_extent(text, renderer)
        if not text.get_visible() or not text.get_text().strip() or not box.width:
            continue
        assert text.get_fontsize() >= 6, (name, text)
        assert box.x0 >= -1 and box.y0 >= -1 and box.x1 <= page.x1 + 1 and box.y1 <= page.y1 + 1, (name, text)
        shown.append((text, box))
    for i, (first, a) in enumerate(shown):
        for second, b in shown[i + 1 :]:
            apart = a.x1 <= b.x0 + 1 or b.x1 <= a.x0 + 1 or a.y1 <= b.y0 + 1 or b.y1 <= a.y0 + 1
            assert apart, (name, first, second)


def test_no_words_overlap_none_is_small_and_none_leaves_the_page():
    for name, (figure, _) in figures().items():
        check_words(name, figure)


def test_pages_are_as_wide_as_asked_and_equal_inputs_give_equal_bytes(tmp_path):
    files = []
    for folder in ("a", "b"):
        paths = save_figure(*_swap(loss_against(law(), "N", table=runs()), tmp_path / folder / "law"))
        files.append([path.read_bytes() for path in paths])
    assert files[0] == files[1]
    assert b"/FontFile2" in files[0][0] and b"/Type3" not in files[0][0]
    assert f"{72 * Width.SINGLE:g}".encode() in files[0][0]
    assert len(pd.read_csv(tmp_path / "a" / "law.csv")) == len(loss_against(law(), "N", table=runs())[1])


def _swap(drawn, stem):
    return drawn[0], stem, drawn[1]


def test_a_fit_without_draws_has_no_band_and_says_so():
    figure, data = loss_against(
        fit(CHINCHILLA, runs(), bootstrap=Bootstrap(0), search=Search(starts=32), profiles=False), "N"
    )
    assert "law interval" not in set(data["layer"])
    assert "no bootstrap" in figure.legends[0].get_title().get_text()


def test_a_law_goes_through_the_panels_of_a_summary():
    summary = seed_summary(runs(), ["real_fraction", "n_params", "records_seen"])
    figure = loss_against_size(summary, fit=law())
    line = figure.axes[0].lines[-1]
    np.testing.assert_allclose(line.get_ydata(), law().predict(N=line.get_xdata(), D=BUDGETS[0]))


def test_figures_refuse_laws_in_other_variables():
    for draw in (contours, loss_against_compute):
        with pytest.raises(ValueError, match="needs one in N and D"):
            draw(line())
    with pytest.raises(ValueError, match="N, R, S, U"):
        mix_curves(law())
    with pytest.raises(ValueError, match="not 'U'"):
        loss_against(law(), "U")
