"""Speed by loss on planted power laws, whose ratio is one number at every loss."""

import numpy as np
import pandas as pd
import pytest

from scaling_fits.convergence.speed_curve import POINTS, speed_curve
from scaling_fits.tables.run_table import RunTable

RECORDS = np.geomspace(256, 65_536, 33)
SPEED_UP = {"a": 3.0, "b": 1.0}


def planted(arm, sizes=(3e4, 1e5), seeds=4, sd=0.0, records=RECORDS, real_fraction=1.0):
    """Loss 2 (D s / 1000)^-.4 without a floor, so that interpolation in logarithms is exact; and its run table."""
    rng = np.random.default_rng(len(arm) + ord(arm))
    curves, rows = [], []
    for n in sizes:
        for seed in range(seeds):
            trunk, speed = f"{arm}-{n:g}-{seed}", SPEED_UP[arm] * np.exp(sd * rng.normal())
            loss = 2 * (records * speed * (n / 1e5) ** 0.3 / 1000) ** -0.4
            curves.append(pd.DataFrame({"trunk_id": trunk, "records_seen": records, "loss": loss}))
            rows.append((trunk, n, seed, records[-1], real_fraction, 6 * n * records[-1]))
    columns = ["trunk_id", "n_params", "seed", "records_seen", "real_fraction", "train_flops"]
    frame = pd.DataFrame(rows, columns=columns).assign(excluded_because="")
    return pd.concat(curves), RunTable(frame, arm, 0.0)


def test_planted_speed_is_returned_at_every_loss():
    (curves_a, a), (curves_b, b) = planted("a"), planted("b")
    found = speed_curve(pd.concat([curves_a, curves_b]), a, b)
    assert len(found.points) == POINTS and found.points["target"].is_monotonic_decreasing
    inside = found.points[found.points["target"].between(found.common[1], found.common[0], inclusive="neither")]
    assert len(inside) > 10 and (inside["method"] == "paired t").all()
    np.testing.assert_allclose(inside["ratio"], 1 / 3, rtol=1e-6)


@pytest.mark.parametrize(("measure", "ratio"), [("flops", 1 / 3), ("real_records", 0.1 / 3)])
def test_other_measures_are_proportional_to_records(measure, ratio):
    (curves_a, a), (curves_b, b) = planted("a", real_fraction=0.1), planted("b")
    found = speed_curve(pd.concat([curves_a, curves_b]), a, b, targets=[0.9, 0.7], measure=measure)
    np.testing.assert_allclose(found.points["ratio"], ratio, rtol=1e-6)


def test_trunks_cut_off_widen_the_interval_and_do_not_move_it_away():
    (curves_a, a), (curves_b, b) = planted("a", sd=0.2), planted("b", sd=0.2)
    whole = speed_curve(pd.concat([curves_a, curves_b]), a, b, targets=[0.55]).points.iloc[0]
    short = curves_b[(curves_b["records_seen"] < 8_000) | ~curves_b["trunk_id"].isin(["b-30000-0", "b-100000-1"])]
    cut = speed_curve(pd.concat([curves_a, short]), a, b, targets=[0.55]).points.iloc[0]
    assert whole["censored"] == 0 and cut["censored"] == 2
    assert cut["low"] < 1 / 3 < cut["high"] and whole["low"] < 1 / 3 < whole["high"]
    assert np.log(cut["high"] / cut["low"]) > np.log(whole["high"] / whole["low"])


def test_a_loss_that_one_arm_never_reaches_has_no_ratio_but_a_reason():
    (curves_a, a), (curves_b, b) = planted("a"), planted("b")
    point = speed_curve(pd.concat([curves_a, curves_b]), a, b, targets=[0.3]).points.iloc[0]
    assert np.isnan(point["ratio"]) and "of b are seen to reach it" in point["reason"]


def test_what_cannot_be_compared_is_refused():
    (curves_a, a), (curves_b, b) = planted("a"), planted("b")
    curves = pd.concat([curves_a, curves_b])
    with pytest.raises(ValueError, match="8 trunks stand in both arms, such as 'a-100000-0'"):
        speed_curve(curves, a, a)
    with pytest.raises(ValueError, match="b: 8 trunks have no curve, such as"):
        speed_curve(curves_a, a, b)
    late = curves_b.assign(loss=curves_b["loss"] + 10)
    with pytest.raises(ValueError, match="no loss is reached by both arms"):
        speed_curve(pd.concat([curves_a, late]), a, b)
