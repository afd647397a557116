"""The protocol's contrasts: how the gap between two arms, or the speed of one, moves with ln N.

P1 and P2 regress paired differences of ln L (same size, budget, seed, pool draw) on ln N; P3 regresses ln(records to
target). Errors are clustered on trunks, a mixed model stands beside each; the three primary p-values are corrected by
Holm (1979).
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np
import pandas as pd
from scipy import stats

from scaling_fits.contrasts.slopes import SMALLEST_EFFECT, UNRESOLVED, Slope, Unpaired, components, holm, slope_in_size
from scaling_fits.errors import Refused
from scaling_fits.estimation.clusters import robust_variance
from scaling_fits.estimation.columns import AXES
from scaling_fits.tables.run_table import FRESH_EPOCHS, RunTable, require_columns

PRIMARY_CONTRASTS = 3
ARM_COLUMNS = ("trunk_id", "n_params", "records_seen", "seed", "real_fraction")


@dataclass(frozen=True)
class PatientDifference:
    """Mean paired difference over patients of run a minus run b, with its standard error over patients.

    `relative` is the difference as a share of run b's mean loss (or exp(difference) - 1 for ln loss).
    """

    run_a: str
    run_b: str
    response: str
    estimate: float
    relative: float
    standard_error: float | None
    interval: tuple[float, float] | None
    patients: int
    masks: int

    @property
    def verdict(self) -> str:
        """`a is lower`, `a is higher`, or `unresolved` (interval covers 0, or less than the smallest effect)."""
        if self.interval is None or self.interval[0] <= 0 <= self.interval[1] or abs(self.relative) <= SMALLEST_EFFECT:
            return UNRESOLVED
        return "a is lower" if self.estimate < 0 else "a is higher"


def select_arm(
    table: RunTable, real_fraction: float, *, pool: float | None = None, tier: str | None = None
) -> RunTable:
    """The headline rows of one real fraction: replacement mixing, fresh synthetic records of `tier`, real pool `pool`.

    Finite-synthetic and additive controls are left out here; select them by their columns with `RunTable.where`.
    """
    arm = table.where(real_fraction=real_fraction)
    if pool is not None and real_fraction > 0:
        arm = arm.where(unique_real_patients=pool)
    if tier is not None and real_fraction < 1:
        arm = arm.where(tier=tier)
    if "mixing" in arm.frame and 0 < real_fraction < 1:
        arm = arm.where(mixing="replacement")
    if "epochs_synthetic" in arm.frame:
        arm = replace(arm, frame=arm.frame[~(arm.frame["epochs_synthetic"] > FRESH_EPOCHS)])
    return arm


PAIRED_ON = ("n_params", "records_seen", "seed")


def unpaired_runs(
    arm_a: RunTable, arm_b: RunTable, *, on: Sequence[str] = PAIRED_ON, labels: tuple[str, str] = ("a", "b")
) -> tuple[Unpaired, ...]:
    """The runs that `paired_differences` leaves out of either arm, by `run_id` or, without one, by trunk."""
    on, found = list(on), []
    keys = [pd.MultiIndex.from_frame(arm.rows[on]) for arm in (arm_a, arm_b)]
    for arm, own, others, label, other in zip((arm_a, arm_b), keys, keys[::-1], labels, labels[::-1]):
        alone = arm.rows[~own.isin(others)]
        if len(alone):
            runs = alone["run_id" if "run_id" in alone else "trunk_id"].astype(str)
            found.append(Unpaired(label, other, tuple(on), tuple(runs), len(arm.rows)))
    return tuple(found)


def paired_differences(
    arm_a: RunTable,
    arm_b: RunTable,
    *,
    on: Sequence[str] = PAIRED_ON,
    beside_a: Sequence[str] = (),
    beside_b: Sequence[str] = (),
    response: str = "loss",
) -> pd.DataFrame:
    """Differences of ln response, a minus b, of runs that agree in every column of `on`.

    Columns: `on`, `difference`, `trunk_a`, `trunk_b`, and `run_a`, `run_b` where the arms have a `run_id`. Runs of
    one arm may also differ in its `beside` columns (pool draws that share one pure synthetic run); otherwise two runs
    with the same key raise ValueError naming the columns in which they differ. Runs without a partner are those of
    `unpaired_runs`.
    """
    on = list(on)
    sides = []
    for letter, arm, beside in (("a", arm_a, beside_a), ("b", arm_b, beside_b)):
        require_columns(arm.frame, [*on, "trunk_id", response], arm.source)
        _refuse_repeats(arm, [*on, *beside], response)
        names = {"trunk_id": f"trunk_{letter}", response: f"_{letter}"}
        if "run_id" in arm.frame:
            names["run_id"] = f"run_{letter}"
        sides.append(arm.rows[[*on, *names]].rename(columns=names))
    pairs = sides[0].merge(sides[1], on=on).sort_values(on, kind="stable").reset_index(drop=True)
    pairs["difference"] = np.log(pairs["_a"]) - np.log(pairs["_b"])
    return pairs.drop(columns=["_a", "_b"])


def summarise_differences(
    pairs: pd.DataFrame,
    by: Sequence[str] = ("n_params", "records_seen"),
    trunks: Sequence[str] = ("trunk_a", "trunk_b"),
) -> pd.DataFrame:
    """Mean difference of ln L per size and budget, with `log_sd` over seeds and draws (NaN for one) and a `verdict`.

    `pairs` counts differences, `clusters` the groups of them that share no run: differences beside one reference run
    share its noise. The 95 % interval `low`, `high` is the t interval of a mean of clusters (CR2 variance with
    Satterthwaite's degrees of freedom, `clusters.robust_variance`; for equal clusters Student's of their means), NaN
    for one. The verdict is `unresolved` when the mean is within 3.5 % or the interval covers 0 or is missing.
    ValueError without the columns `trunks`, as then nobody knows which differences share a run.
    """
    require_columns(pairs, [*by, *trunks, "difference"], "pairs")
    lines = []
    for key, cell in pairs.groupby(list(by), sort=True):
        values, cluster_N = cell["difference"].to_numpy(dtype=float), components(cell, trunks)
        mean, clusters, half = float(values.mean()), int(np.unique(cluster_N).size), math.nan
        if clusters > 1:
            found = robust_variance(np.ones((len(values), 1)), values - mean, cluster_N)
            half = float(stats.t.ppf(0.975, found.dof_P[0]) * np.sqrt(found.variance_P[0]))
        log_sd = float(values.std(ddof=1)) if len(values) > 1 else math.nan
        counts = {"pairs": len(values), "clusters": clusters}
        ends = {"low": mean - half, "high": mean + half}
        lines.append({**dict(zip(by, key)), "difference": mean, "log_sd": log_sd, **counts, **ends})
    table = pd.DataFrame(lines, columns=[*by, "difference", "log_sd", "pairs", "clusters", "low", "high"])
    resolved = (table["low"] > 0) | (table["high"] < 0)
    resolved &= table["difference"].abs() > math.log1p(SMALLEST_EFFECT)
    side = np.where(table["difference"] < 0, "a is lower", "a is higher")
    table["verdict"] = np.where(resolved, side, UNRESOLVED)
    return table


def protocol_contrasts(
    table: RunTable,
    *,
    mix: float = 0.5,
    tier: str | None = None,
    times: pd.DataFrame | None = None,
    response: str = "loss",
    n: str = "n_params",
) -> tuple[Slope, ...]:
    """P1, P2 per pool and P3 per arm, as slopes in ln N.

    `n` is the size column of the regression (report both `n_params` and `n_params_total`). `times` has the columns
    `trunk_id`, `records` (one row per trunk, NaN where the target is not reached; `convergence.records_to_target`).
    The Holm family is P1 and P2 and P3 of the mix, all at the largest pool; other pools and arms are exploratory.
    Raises ValueError when a column is missing or rows cannot be paired uniquely.
    """
    require_columns(table.frame, [*ARM_COLUMNS, "unique_real_patients", n], table.source)
    mixed = table.where(real_fraction=mix)
    pools = sorted(mixed.rows["unique_real_patients"].unique(), reverse=True)
    if not pools:
        raise ValueError(f"{table.source}: every row with real_fraction = {mix} is excluded: {mixed.excluded}")
    shape = {"response": response, "n": n}
    pure = select_arm(table, 0.0, tier=tier)
    full = select_arm(table, mix, pool=pools[0], tier=tier)
    slopes = [_difference_slope("P1", (mix, 0.0), "", full, pure, primary=True, **shape)]
    for pool in pools:
        if not _has(table, 1.0, pool):
            continue
        arm, real = (select_arm(table, fraction, pool=pool, tier=tier) for fraction in (mix, 1.0))
        where = f", {pool:g} patients"
        slopes.append(_difference_slope("P2", (mix, 1.0), where, arm, real, primary=bool(pool == pools[0]), **shape))
    if times is not None:
        for fraction in sorted(table.rows["real_fraction"].unique(), key=lambda r: (r != mix, r)):
            if fraction > 0 and not _has(table, fraction, pools[0]):
                continue
            arm = select_arm(table, fraction, pool=pools[0], tier=tier)
            slopes.append(_speed_slope(arm, times, fraction, primary=bool(fraction == mix), n=n))
    # Exploratory slopes are no members of the family: they would dilute it.
    corrected = iter(holm([slope.p_value for slope in slopes if slope.primary], PRIMARY_CONTRASTS))
    return tuple(replace(slope, holm_p_value=next(corrected)) if slope.primary else slope for slope in slopes)


def contrasts_json(slopes: Sequence[Slope]) -> str:
    """JSON with sorted keys, every number and the verdicts."""
    entries = [{**asdict(slope), "verdict": slope.verdict} for slope in slopes]
    return json.dumps(entries, indent=2, sort_keys=True, allow_nan=False) + "\n"


def paired_patient_difference(
    patients: pd.DataFrame, run_a: str, run_b: str, *, response: str = "ln_loss", level: float = 0.95
) -> PatientDifference:
    """Difference a - b on the same masks: averaged over masks within patients, then over patients.

    `patients` has the columns run_id, patient_id, mask, loss. `response` is "ln_loss" (mean difference of each
    patient's ln of its mean loss) or "loss". Raises ValueError when the runs were not scored on the same (patient,
    mask) sets.
    """
    require_columns(patients, ["run_id", "patient_id", "mask", "loss"], "patients table")
    if response not in ("ln_loss", "loss"):
        raise ValueError(f"response must be 'ln_loss' or 'loss', not {response!r}")
    runs = {run: patients[patients["run_id"].astype(str) == str(run)] for run in (run_a, run_b)}
    scored = {run: rows.groupby(["patient_id", "mask"])["loss"].mean() for run, rows in runs.items()}
    unshared = scored[run_a].index.symmetric_difference(scored[run_b].index)
    if len(unshared) or not len(scored[run_a]):
        sizes = {run: len(values) for run, values in scored.items()}
        raise ValueError(
            f"patients table: runs {run_a!r} and {run_b!r} share not all (patient, mask) sets: {sizes}, "
            f"{len(unshared)} in only one of them; a paired difference needs the same masks"
        )
    means = {run: values.groupby("patient_id").mean() for run, values in scored.items()}
    if response == "ln_loss":
        difference = np.log(means[run_a]) - np.log(means[run_b])
        relative = math.expm1(difference.mean())
    else:
        difference = means[run_a] - means[run_b]
        relative = float(difference.mean() / means[run_b].mean())
    count, estimate = len(difference), float(difference.mean())
    error = float(difference.std(ddof=1) / math.sqrt(count)) if count > 1 else None
    half = None if error is None else float(stats.t.ppf((1 + level) / 2, count - 1) * error)
    interval = None if half is None else (estimate - half, estimate + half)
    masks = int(scored[run_a].index.get_level_values("mask").nunique())
    return PatientDifference(str(run_a), str(run_b), response, estimate, relative, error, interval, count, masks)


def _difference_slope(
    name: str,
    fractions: tuple[float, float],
    where: str,
    arm_a: RunTable,
    arm_b: RunTable,
    *,
    primary: bool,
    response: str,
    n: str,
) -> Slope:
    on = ["n_params", "records_seen", "seed"]
    if n not in on:
        on.append(n)
    if "pool_shuffle" in arm_b.rows and (arm_b.rows["real_fraction"] > 0).all():
        on.append("pool_shuffle")
    pairs = paired_differences(arm_a, arm_b, on=on, response=response)
    labels = (f"r = {fractions[0]:g}{where}", f"r = {fractions[1]:g}{where}")
    quantity = f"ln L(r={fractions[0]:g}) - ln L(r={fractions[1]:g}){where}"
    slope = slope_in_size(name, quantity, pairs, primary=primary, n=n)
    if pairs.empty:
        slope = replace(slope, reason=f"no run of {labels[0]} has a partner at {labels[1]}")
    return replace(slope, unpaired=unpaired_runs(arm_a, arm_b, on=on, labels=labels))


def _speed_slope(arm: RunTable, times: pd.DataFrame, fraction: float, *, primary: bool, n: str) -> Slope:
    require_columns(times, ["trunk_id", "records"], "times to target")
    trunks = arm.rows.drop_duplicates("trunk_id")[["trunk_id", n]].merge(times, on="trunk_id", validate="one_to_one")
    reached = trunks[np.isfinite(trunks["records"])].assign(difference=lambda rows: np.log(rows["records"]))
    quantity = f"ln(records to target), r={fraction:g}"
    share = len(reached) / max(len(trunks), 1)
    if share < 0.9:
        reason = f"{len(reached)} of {len(trunks)} trunks reach the target, 90 % needed"
        return Slope("P3", quantity, primary, len(reached), len(reached), 0, int(reached[n].nunique()), reason=reason)
    return slope_in_size("P3", quantity, reached, trunks=("trunk_id",), within=None, primary=primary, n=n)


def _has(table: RunTable, fraction: float, pool: float) -> bool:
    rows = table.rows
    return bool((np.isclose(rows["real_fraction"], fraction) & (rows["unique_real_patients"] == pool)).any())


def _refuse_repeats(arm: RunTable, on: list[str], response: str) -> None:
    rows = arm.rows
    repeated = rows[rows.duplicated(on, keep=False)]
    if repeated.empty:
        return
    first = repeated[(repeated[on] == repeated[on].iloc[0]).all(axis=1)]
    names = [column for column in first if column not in (*on, "run_id", "trunk_id", response)]
    differing = [column for column in names if first[column].nunique(dropna=False) > 1]
    # What sets kinds of runs apart is an axis of the design, or has names; what was measured differs in any case.
    differing.sort(key=lambda c: AXES.index(c) if c in AXES else len(AXES) + pd.api.types.is_numeric_dtype(first[c]))
    key = ", ".join(f"{column} {first[column].iloc[0]:.12g}" for column in on)
    column = differing[0] if differing else "COLUMN"
    raise Refused(
        f"{arm.source}: {len(first)} runs of one arm share {key}; they differ in {', '.join(differing[:8])}",
        python=f"select one kind with .where({column}=...)",
        command=f"select one kind with --where {column}=VALUE",
    )
