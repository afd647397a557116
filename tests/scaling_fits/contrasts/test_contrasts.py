"""Contrasts and convergence speed on planted tables whose answers are known."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from scaling_fits.__main__ import main
from scaling_fits.contrasts.contrasts import (
    contrasts_json,
    holm,
    paired_differences,
    paired_patient_difference,
    protocol_contrasts,
    select_arm,
    slope_in_size,
    summarise_differences,
)
from scaling_fits.convergence.times import add_axes, records_to_close, records_to_target, speed_ratio
from scaling_fits.tables.run_table import read_runs

SIZES = (3e4, 1e5, 3e5)
BUDGETS = (4e3, 1e4, 2.5e4)


def study(slope: float = -0.05, noise: float = 0.0, seeds: int = 3, seed: int = 0) -> pd.DataFrame:
    """ln L(.5) - ln L(0) moves by `slope` per unit of ln N, ln L(.5) - ln L(1) by half of that; pools 1487 and 150."""
    rng = np.random.default_rng(seed)
    rows = []
    for r, pool in ((0.0, 0), (0.5, 1487), (1.0, 1487), (0.5, 150), (1.0, 150)):
        for n in SIZES:
            for s in range(seeds):
                shared = rng.normal(0, noise)
                for d in BUDGETS:
                    effect = {0.0: 0.0, 0.5: slope, 1.0: slope / 2}[r] * np.log(n / 1e5)
                    loss = np.exp(-0.1 * np.log(n * d**2 / 1e12) + effect + shared + rng.normal(0, noise / 3)) / 5
                    rows.append((f"{r}-{pool}-{n:g}-{s}", n, d, s, r, pool, loss))
    columns = ["trunk_id", "n_params", "records_seen", "seed", "real_fraction", "unique_real_patients", "loss"]
    frame = pd.DataFrame(rows, columns=columns).assign(tier="T1", mixing="replacement", pool_shuffle=0, loss_mean=1.0)
    frame["epochs_real"] = frame["real_fraction"] * frame["records_seen"] / frame["unique_real_patients"].clip(lower=1)
    return frame.assign(
        run_id=[f"run{i:03d}" for i in range(len(frame))], train_flops=frame.n_params * frame.records_seen
    )


def curves(times: dict[str, float], exponent: float = 0.5) -> pd.DataFrame:
    """Power-law curves that pass loss 0.3 at the given number of records."""
    records = np.geomspace(1e3, 6.4e4, 13)
    parts = [
        pd.DataFrame({"trunk_id": trunk, "records_seen": records, "loss": 0.3 * (at / records) ** exponent})
        for trunk, at in times.items()
    ]
    return pd.concat(parts, ignore_index=True)


def test_planted_slopes_are_recovered_with_their_holm_family():
    frame = study(-0.05, noise=0.01)
    times = {trunk: 5e3 * (1e5 / n) ** 0.3 for trunk, n in frame[["trunk_id", "n_params"]].drop_duplicates().to_numpy()}
    slopes = protocol_contrasts(read_runs(frame), times=records_to_target(curves(times), 0.3))
    primary = {slope.name: slope for slope in slopes if slope.primary}
    assert list(primary) == ["P1", "P2", "P3"]
    assert primary["P1"].interval[0] < -0.05 < primary["P1"].interval[1]
    assert primary["P1"].verdict == "falls with size"
    assert (primary["P1"].pairs, primary["P1"].trunks, primary["P1"].clusters) == (27, 18, 9)
    assert primary["P3"].estimate == pytest.approx(-0.3, abs=1e-9)
    assert primary["P1"].holm_p_value >= primary["P1"].p_value
    assert {s.quantity for s in slopes if s.name == "P2"} == {
        "ln L(r=0.5) - ln L(r=1), 1487 patients",
        "ln L(r=0.5) - ln L(r=1), 150 patients",
    }
    assert all(slope.holm_p_value is None for slope in slopes if not slope.primary)
    assert len(json.loads(contrasts_json(slopes))) == len(slopes)


def test_exact_differences_give_exact_slopes():
    slopes = protocol_contrasts(read_runs(study(0.04)))
    assert slopes[0].estimate == pytest.approx(0.04, abs=1e-12)
    assert slopes[1].estimate == pytest.approx(0.02, abs=1e-12)


def test_no_effect_is_unresolved_and_rejected_as_rarely_as_stated():
    rng = np.random.default_rng(0)
    cells = pd.DataFrame([(n, d, f"{n}-{s}") for n in SIZES for s in range(3) for d in BUDGETS])
    cells.columns = ["n_params", "records_seen", "trunk_a"]
    pairs = cells.assign(trunk_b=cells["trunk_a"] + "b")
    rejected = 0
    for _ in range(200):
        shared = np.repeat(rng.normal(0, 0.02, 9), len(BUDGETS))
        slope = slope_in_size("P1", "", pairs.assign(difference=shared + rng.normal(0, 0.01, len(pairs))))
        rejected += slope.p_value < 0.05
    assert rejected <= 20  # 10 expected; 21 or more has probability 0.001
    assert protocol_contrasts(read_runs(study(0.0, noise=0.001)))[0].verdict == "unresolved"


def test_a_single_seed_gives_an_estimate_and_says_why_there_is_no_interval():
    slope = protocol_contrasts(read_runs(study(-0.05, noise=0.01, seeds=1)))[0]
    assert slope.estimate == pytest.approx(-0.05, abs=0.02)
    assert slope.interval is None and slope.p_value is None and "3 independent clusters" in slope.reason
    assert slope.verdict == "unresolved" and "no interval" in str(slope)


def test_pairs_that_share_a_trunk_are_one_cluster():
    pairs = pd.DataFrame({"n_params": [1e4, 1e4, 1e5, 1e5, 1e6], "difference": [0.1, 0.2, 0.3, 0.4, 0.5]})
    pairs = pairs.assign(trunk_a=list("abcde"), trunk_b=list("vvwxy"), records_seen=1e3)
    assert slope_in_size("P1", "", pairs).clusters == 4


def test_controls_stay_out_of_the_headline_arms_and_ambiguous_rows_are_named():
    frame = study()
    control = frame[(frame["real_fraction"] == 0.5) & (frame["unique_real_patients"] == 1487)]
    finite = control.assign(epochs_synthetic=8.0, loss=9.0)
    additive = control.assign(mixing="additive", loss=9.0)
    noise = control.assign(tier="T-1", loss=9.0)
    everything = pd.concat([frame, finite, additive, noise], ignore_index=True)
    everything["run_id"] = [f"run{i}" for i in range(len(everything))]
    everything["trunk_id"] += everything["tier"] + everything["mixing"] + everything["epochs_synthetic"].astype(str)
    everything["loss_mean"] = 20.0
    table = read_runs(everything)
    assert protocol_contrasts(table, tier="T1")[0].estimate == pytest.approx(-0.05, abs=1e-12)
    with pytest.raises(ValueError, match=r"differ in tier; select one kind with .where\(tier=...\)"):
        protocol_contrasts(table)


def test_differences_within_the_smallest_effect_are_unresolved():
    table = read_runs(study(-0.05, noise=0.002))
    pairs = paired_differences(select_arm(table, 0.5, pool=1487), select_arm(table, 0.0))
    summary = summarise_differences(pairs).set_index(["n_params", "records_seen"])
    assert set(summary.loc[1e5, "verdict"]) == {"unresolved"}
    assert set(summary.loc[3e5, "verdict"]) == {"a is lower"}


def shared_reference(draws: int, seeds: int, rng: np.random.Generator) -> pd.DataFrame:
    """Differences of pool draws beside one pure synthetic run per seed, all noise of equal size and no effect."""
    pure, mixed = rng.normal(0, 0.02, seeds), rng.normal(0, 0.02, (seeds, draws))
    rows = [(1e6, 1e5, s, d, f"a{s}-{d}", f"b{s}", mixed[s, d] - pure[s]) for s in range(seeds) for d in range(draws)]
    columns = ["n_params", "records_seen", "seed", "pool_draw", "trunk_a", "trunk_b", "difference"]
    return pd.DataFrame(rows, columns=columns)


@pytest.mark.parametrize(("draws", "seeds"), [(4, 3), (2, 6), (1, 5)])
def test_differences_beside_one_run_are_no_independent_ones(draws, seeds):
    rng = np.random.default_rng(0)
    summaries = [summarise_differences(shared_reference(draws, seeds, rng)).iloc[0] for _ in range(400)]
    assert {(one["pairs"], one["clusters"]) for one in summaries} == {(draws * seeds, seeds)}
    covered = np.mean([one["low"] < 0 < one["high"] for one in summaries])
    assert 0.92 < covered < 0.98  # t over all pairs covers 75 % with 4 draws
    # Equal clusters: Student's interval of their means.
    pairs = shared_reference(draws, seeds, rng)
    means = pairs.groupby("trunk_b")["difference"].mean()
    half = stats.t.ppf(0.975, seeds - 1) * means.std(ddof=1) / np.sqrt(seeds)
    line = summarise_differences(pairs).iloc[0]
    assert (line["low"], line["high"]) == pytest.approx((means.mean() - half, means.mean() + half), rel=1e-9)


def test_differences_without_their_trunks_are_refused():
    pairs = shared_reference(4, 3, np.random.default_rng(0)).drop(columns=["trunk_a", "trunk_b"])
    with pytest.raises(ValueError, match=r"missing columns \['trunk_a', 'trunk_b'\]"):
        summarise_differences(pairs)
    one = summarise_differences(shared_reference(4, 1, np.random.default_rng(0))).iloc[0]
    assert one["clusters"] == 1 and np.isnan(one["low"]) and one["verdict"] == "unresolved"


def test_runs_without_a_partner_are_counted_by_name(tmp_path, capsys):
    frame = study(noise=0.01)
    lost = frame[(frame["real_fraction"] == 0) & (frame["n_params"] == 3e4) & (frame["seed"] == 1)]
    mixed = frame[(frame["real_fraction"] == 0.5) & (frame["unique_real_patients"] == 1487)]
    alone = mixed[(mixed["n_params"] == 3e4) & (mixed["seed"] == 1)]["run_id"].tolist()
    runs, out = tmp_path / "runs.csv", tmp_path / "contrasts.json"
    frame.drop(index=lost.index).to_csv(runs, index=False)
    assert main(["contrasts", str(runs), "--out", str(out)]) == 0
    text = capsys.readouterr().out
    assert f"3 of 27 runs of r = 0.5 have no partner at r = 0 (same n_params, records_seen, seed): {alone[0]}" in text
    first, second = json.loads(out.read_text())[:2]
    assert first["unpaired"][0]["runs"] == alone and second["unpaired"] == []
    shifted = frame.assign(seed=np.where(frame["real_fraction"] == 0, frame["seed"] + 100, frame["seed"]))
    none = protocol_contrasts(read_runs(shifted))[0]
    assert none.estimate is None and [left.of for left in none.unpaired] == [27, 27]
    assert "27 of 27 runs of r = 0 have no partner at r = 0.5" in str(none)


def test_patients_are_paired_on_the_same_masks():
    rng = np.random.default_rng(0)
    base = pd.DataFrame({"patient_id": np.repeat(np.arange(40), 8), "mask": np.tile(np.arange(8), 40)})
    level = np.exp(rng.normal(0, 0.5, 40))[base["patient_id"]]
    a = base.assign(run_id="a", loss=0.9 * level)
    b = base.assign(run_id="b", loss=level)
    both = pd.concat([a, b]).sample(frac=1, random_state=0)
    difference = paired_patient_difference(both, "a", "b")
    assert difference.estimate == pytest.approx(np.log(0.9)) and difference.patients == 40 and difference.masks == 8
    assert difference.standard_error < 1e-12 and difference.verdict == "a is lower"
    absolute = paired_patient_difference(both, "a", "b", response="loss")
    patient = base.assign(level=level).groupby("patient_id")["level"].mean()
    assert absolute.estimate == pytest.approx(-0.1 * patient.mean())
    assert absolute.standard_error == pytest.approx(0.1 * patient.std(ddof=1) / np.sqrt(40))
    with pytest.raises(ValueError, match="same masks"):
        paired_patient_difference(pd.concat([a, b.iloc[1:]]), "a", "b")


def test_records_to_target_are_exact_on_power_laws():
    times = records_to_target(curves({"a": 7.7e3, "b": 1e5, "c": 1e2}), 0.3)
    assert times["records"][0] == pytest.approx(7.7e3, rel=1e-12)
    assert times["status"].tolist() == ["reached", "not_reached", "before_first_point"]
    assert np.isnan(times["records"][1:]).all()


def test_speed_ratio_or_bound():
    frame = study()
    table = read_runs(frame[frame["unique_real_patients"] != 150])
    arms = {
        r: [t for t, v in zip(frame.trunk_id, frame.real_fraction) if v == r and "-150-" not in t] for r in (0, 0.5)
    }
    times = {t: 8e3 for t in arms[0]} | {t: 2e3 for t in arms[0.5]}
    full = add_axes(records_to_target(curves(times), 0.3), table)
    pure, mixed = (full[full["real_fraction"] == r] for r in (0.0, 0.5))
    ratio = speed_ratio(mixed, pure)
    assert ratio.ratio == pytest.approx(0.25) and ratio.bound is None and ratio.pairs == 9
    assert speed_ratio(mixed, pure, measure="flops").ratio == pytest.approx(0.25)
    assert mixed["real_records"].to_numpy() == pytest.approx(1e3)
    slow = {t: 1e6 for t in arms[0]} | {t: 2e3 for t in arms[0.5]}
    full = add_axes(records_to_target(curves(slow), 0.3), table)
    pure, mixed = (full[full["real_fraction"] == r] for r in (0.0, 0.5))
    bounded = speed_ratio(pure, mixed)
    assert bounded.ratio is None and bounded.bound == ("at least", pytest.approx(32.0)) and "0 of 9" in bounded.reason
    assert speed_ratio(mixed, pure).bound == ("at most", pytest.approx(1 / 32))


def test_relative_speed_uses_the_own_final_loss_of_the_curve():
    frame = study()
    trunk = frame["trunk_id"].iloc[0]
    curve = curves({trunk: 4e3})
    last = curve["loss"].iloc[-1]
    at = records_to_close(curve, read_runs(frame))["records"][0]
    assert 0.3 * (4e3 / at) ** 0.5 == pytest.approx(1.0 - 0.9 * (1.0 - last), rel=1e-9)


def test_cooled_down_runs_are_refused_as_curves():
    with pytest.raises(ValueError, match="never mixed"):
        records_to_target(study(), 0.3)


def test_contrasts_on_the_command_line(tmp_path, capsys):
    runs, curve, out = (tmp_path / name for name in ("runs.csv", "curve.csv", "contrasts.json"))
    frame = study(noise=0.01)
    frame.to_csv(runs, index=False)
    curves(dict.fromkeys(frame["trunk_id"], 9e3)).to_csv(curve, index=False)
    assert main(["contrasts", str(runs), "--curve", str(curve), "--target", "0.3", "--out", str(out)]) == 0
    assert {entry["name"] for entry in json.loads(out.read_text())} == {"P1", "P2", "P3"}
    assert "P1: ln L(r=0.5) - ln L(r=0)" in capsys.readouterr().out
    assert main(["contrasts", str(runs), "--target", "0.3"]) == 2
    assert "both --curve and --target" in capsys.readouterr().err


def test_exploratory_slopes_do_not_enlarge_the_holm_family():
    frame = study(-0.05, noise=0.01)
    times = records_to_target(curves(dict.fromkeys(frame["trunk_id"], 9e3)), 0.3)
    times["records"] *= np.exp(np.random.default_rng(0).normal(0, 0.1, len(times)))
    slopes = protocol_contrasts(read_runs(frame), times=times)
    primary = [slope for slope in slopes if slope.primary]
    assert len(primary) == 3 < len(slopes)
    assert [slope.holm_p_value for slope in primary] == holm([slope.p_value for slope in primary])


def test_both_slopes_are_reported_side_by_side():
    slope = protocol_contrasts(read_runs(study(-0.05, noise=0.01)))[0]
    assert slope.mixed.estimate == pytest.approx(slope.estimate, rel=1e-9)  # balanced
    assert slope.methods_agree and "mixed model" in str(slope)
    assert json.loads(contrasts_json([slope]))[0]["mixed"]["dof"] == pytest.approx(7)
    moved = replace(slope, mixed=replace(slope.mixed, interval=(-0.1, 0.1)))
    assert moved.methods_agree is False and "only one of the two" in str(moved)
    assert protocol_contrasts(read_runs(study(seeds=1)))[0].methods_agree is None
