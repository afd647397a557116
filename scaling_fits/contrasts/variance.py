"""Uncertainty of a difference of ln L between two arms, in its four named parts: seed, pool draw, patient, mask.

Runs and patients are crossed (every run is scored on the same frozen patients), masks are nested in patients (each
patient has its own frozen masks). A part that the design cannot estimate is named, never counted as 0.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from scaling_fits.contrasts.contrasts import PAIRED_ON, paired_differences
from scaling_fits.contrasts.slopes import SMALLEST_EFFECT, UNRESOLVED
from scaling_fits.tables.run_table import RunTable, require_columns

SEED, DRAW, PATIENT, MASK = "seed", "pool draw", "patient", "mask"
SEED_AND_DRAW = "seed and pool draw together"
RUN_TABLE_AGREEMENT = 1e-3  # relative; a larger gap means the patients' losses are not those of the run table


@dataclass(frozen=True)
class Part:
    """One part's contribution to the variance of the difference of ln L.

    `variance` is None when the design cannot estimate it, and `note` says why. `levels` counts the seeds, draws,
    patients or masks per patient behind it, `dof` the degrees of freedom of its estimate.
    """

    name: str
    variance: float | None
    levels: int
    dof: float | None = None
    note: str | None = None

    @property
    def standard_error(self) -> float | None:
        """Square root of the variance, in units of ln L."""
        return None if self.variance is None else math.sqrt(self.variance)

    def __str__(self) -> str:
        value = "not estimated" if self.variance is None else f"{self.standard_error:.4f}"
        return f"{self.name} {value}{f' ({self.note})' if self.note else ''}"


@dataclass(frozen=True)
class ArmDifference:
    """ln L of arm a minus arm b at one size and budget, with the standard error that combines the parts.

    `estimate` is the mean over the paired runs; `relative` is exp(estimate) - 1. `standard_error` and
    `interval` combine the estimated parts only: `missing` names the others, and with any of them nothing is claimed.
    """

    n_params: float
    records_seen: float
    pairs: int
    patients: int
    masks: int
    estimate: float
    standard_error: float
    level: float
    interval: tuple[float, float]
    parts: tuple[Part, ...]

    @property
    def relative(self) -> float:
        """The difference as a share of arm b's loss."""
        return math.expm1(self.estimate)

    @property
    def missing(self) -> tuple[str, ...]:
        """The parts that the design could not estimate."""
        joint = any(part.name == SEED_AND_DRAW for part in self.parts)
        held = (SEED, DRAW) if joint else ()
        return tuple(part.name for part in self.parts if part.variance is None and part.name not in held)

    @property
    def verdict(self) -> str:
        """`a is lower`, `a is higher` or `unresolved`.

        Unresolved: a part is missing, the interval covers 0, or the difference is within 3.5 %.
        """
        covers = self.interval[0] <= 0 <= self.interval[1]
        if self.missing or covers or abs(self.estimate) <= math.log1p(SMALLEST_EFFECT):
            return UNRESOLVED
        return "a is lower" if self.estimate < 0 else "a is higher"

    def __str__(self) -> str:
        low, high = self.interval
        over = "all four parts" if not self.missing else f"all parts but {' and '.join(self.missing)}"
        head = f"N = {self.n_params:g}, D = {self.records_seen:g}: ln L(a) - ln L(b) = {self.estimate:+.4f}"
        spread = f"{100 * self.level:.0f} % interval over {over} {low:+.4f} to {high:+.4f}"
        return f"{head}, {spread}: {self.verdict}; standard errors: {', '.join(map(str, self.parts))}"

    def to_dict(self) -> dict[str, Any]:
        """Plain values, with the verdict and the missing parts."""
        return {**asdict(self), "relative": self.relative, "missing": list(self.missing), "verdict": self.verdict}


def arm_differences(
    arm_a: RunTable,
    arm_b: RunTable,
    patients: pd.DataFrame,
    *,
    on: Sequence[str] | None = None,
    available_patients: int | None = None,
    response: str = "loss",
    level: float = 0.95,
) -> tuple[ArmDifference, ...]:
    """Difference of ln L, arm a minus arm b, at every size and budget they share, with its four-part uncertainty.

    `patients` has the columns run_id, patient_id, mask, loss (one row each; records of a patient averaged). Runs are
    paired on size, budget and seed, and on pool_shuffle where both arms hold real data; `on` replaces that. Draws of
    one arm all pair with the one run of an arm that has a single draw or no real data. L is the mean over patients, so
    a patient's share of ln L is linearised: l_a / L_a - l_b / L_b (the delta method). `available_patients` is the
    number of patients from which pools are drawn: a pool of all of them is no draw.

    Components by the method of moments: between runs from squared differences of pairs of runs that share the seed,
    the draw, or neither, less what patients and masks add to them (in a balanced design the two-way analysis of
    variance; Searle, Casella & McCulloch 1992, chapter 4); the patients' part includes their interplay with runs, the
    masks' part that of masks with runs, the seeds' part that of seeds with draws. A negative estimate counts as 0 and
    is noted. The standard error is the root of the sum; the interval is that of `combine`.
    Raises ValueError when no runs pair, a run is missing from `patients`, masks differ between runs, or the losses
    disagree with the run table by more than 0.1 %.
    """
    on = list(on or _paired_on(arm_a, arm_b))
    for arm in (arm_a, arm_b):
        require_columns(arm.frame, ["run_id", "real_fraction", "unique_real_patients"], arm.source)
    require_columns(patients, ["run_id", "patient_id", "mask", "loss"], "patients table")
    beside_a, beside_b = (_beside(arm, other, on) for arm, other in ((arm_a, arm_b), (arm_b, arm_a)))
    pairs = paired_differences(arm_a, arm_b, on=on, beside_a=beside_a, beside_b=beside_b, response=response)
    if pairs.empty:
        sides = [arm.rows[on].drop_duplicates().head(3).to_dict("records") for arm in (arm_a, arm_b)]
        raise ValueError(
            f"no run of {arm_a.source} pairs with one of {arm_b.source} on {on}: a {sides[0]}, b {sides[1]}"
        )
    pairs["draw"] = _draws(arm_a, arm_b, pairs)
    losses = _losses(patients, pd.unique(pairs[["run_a", "run_b"]].astype(str).to_numpy().ravel()))
    _check_agreement(losses, (arm_a, arm_b), response)
    drawn = _draw_note(arm_a, arm_b, available_patients)
    cells = pairs.groupby(["n_params", "records_seen"], sort=True)
    return tuple(_difference(key, cell, losses, drawn, level) for key, cell in cells)


def four_parts(
    a_JxPxM: np.ndarray,
    b_JxPxM: np.ndarray,
    seeds_J: Sequence[object],
    draws_J: Sequence[object],
    *,
    no_draw: str | None = None,
) -> tuple[float, tuple[Part, ...]]:
    """Mean of ln L(a) - ln L(b) over J paired runs, and the parts of its variance (method: `arm_differences`).

    The losses (J, P, M) of both arms are those of J pairs of runs, P >= 2 patients and M masks; seeds and draws label
    the pairs. `no_draw` says why there is no draw to vary, and makes that part 0. One mask: its noise is in the
    patients' part.
    """
    a_J, b_J = a_JxPxM.mean(axis=(1, 2)), b_JxPxM.mean(axis=(1, 2))
    values_J = np.log(a_J) - np.log(b_J)
    share_JxPxM = a_JxPxM / a_J[:, None, None] - b_JxPxM / b_J[:, None, None]
    _, patients, masks = share_JxPxM.shape
    mean_JxP = share_JxPxM.mean(axis=2)
    covariance_JxJ = mean_JxP @ mean_JxP.T / (patients * (patients - 1))  # every run's shares have mean 0
    both = float(covariance_JxJ.mean())
    runs = _run_parts(values_J, covariance_JxJ, seeds_J, draws_J, no_draw)
    if masks == 1:
        within = Part(MASK, 0.0, 1, None, "one mask per patient: within the patient part")
    else:
        variance = float(share_JxPxM.mean(axis=0).var(axis=1, ddof=1).mean() / (patients * masks))
        within = Part(MASK, variance, masks, patients * (masks - 1.0))
    patient = _part(PATIENT, both - (within.variance or 0.0), patients, patients - 1.0)
    return float(values_J.mean()), (*runs, patient, within)


def combine(parts: Sequence[Part], level: float = 0.95) -> tuple[float, float]:
    """Standard error of the sum of the estimated parts, and the half-width of its interval.

    The half-width is the root sum of squares of the parts' own t half-widths (Howe 1974, JASA 69:789), so three seeds
    keep their t of 4.3. Satterthwaite's degrees of freedom for the sum covered 91 % instead of 95 % there: whenever the
    seeds agree by chance, they hand over to the many patients.
    """
    known = [(part.variance, part.dof) for part in parts if part.variance]
    half = sum(variance * stats.t.ppf((1 + level) / 2, dof) ** 2 for variance, dof in known)
    return math.sqrt(sum(variance for variance, _ in known)), math.sqrt(half)


def run_components(
    values_J: np.ndarray, covariance_JxJ: np.ndarray, seeds_J: Sequence[object], draws_J: Sequence[object]
) -> dict[str, tuple[float, float]]:
    """What seeds and pool draws add to the variance of the mean of J values: {part: (variance, dof)}, maybe below 0.

    `covariance_JxJ` is the sampling covariance of the values from patients and masks; what it adds to the spread
    between runs is taken off. Keys are `seed`, `pool draw`, or `seed and pool draw together` where the two never vary
    apart; a part without a key cannot be estimated from these runs.
    """
    seed_J, draw_J = (np.unique(list(map(str, labels)), return_inverse=True)[1] for labels in (seeds_J, draws_J))
    same_seed, same_draw = seed_J[:, None] == seed_J, draw_J[:, None] == draw_J
    kinds = {DRAW: same_seed & ~same_draw, SEED: ~same_seed & same_draw, SEED_AND_DRAW: ~same_seed & ~same_draw}
    spread = {
        kind: _mean_half_square(values_J, covariance_JxJ, pairs_JxJ)
        for kind, pairs_JxJ in kinds.items()
        if pairs_JxJ.any()
    }
    count, levels = len(values_J), {SEED: seed_J.max() + 1, DRAW: draw_J.max() + 1}
    squares = {
        SEED: np.sum(np.bincount(seed_J) ** 2.0) / count**2,
        DRAW: np.sum(np.bincount(draw_J) ** 2.0) / count**2,
    }
    if set(spread) == {SEED_AND_DRAW}:
        return {SEED_AND_DRAW: (spread[SEED_AND_DRAW] / count, count - 1.0)}
    if len(spread) == 3:
        seed, draw = spread[SEED_AND_DRAW] - spread[DRAW], spread[SEED_AND_DRAW] - spread[SEED]
        interplay = (spread[SEED] + spread[DRAW] - spread[SEED_AND_DRAW]) / count
        return {
            SEED: (float(seed * squares[SEED] + interplay), levels[SEED] - 1.0),
            DRAW: (float(draw * squares[DRAW]), levels[DRAW] - 1.0),
        }
    found = {}
    for inner, outer in ((SEED, DRAW), (DRAW, SEED)):
        if inner in spread:  # alone, or nested in the levels of the other
            found[inner] = (float(spread[inner] * squares[inner]), float(count - levels[outer]))
            if SEED_AND_DRAW in spread:
                between = spread[SEED_AND_DRAW] - spread[inner]
                found[outer] = (float(between * squares[outer]), levels[outer] - 1.0)
    return found


def _mean_half_square(values_J: np.ndarray, covariance_JxJ: np.ndarray, pairs_JxJ: np.ndarray) -> float:
    """Mean over the pairs of (x_i - x_j)^2 / 2, less its expectation from the covariance."""
    variance_J = np.diag(covariance_JxJ)
    noise_JxJ = variance_J[:, None] + variance_J - 2 * covariance_JxJ
    return float(np.mean(((values_J[:, None] - values_J) ** 2 - noise_JxJ)[pairs_JxJ]) / 2)


def _difference(
    key: tuple[float, float], cell: pd.DataFrame, losses: dict[str, np.ndarray], no_draw: str | None, level: float
) -> ArmDifference:
    a_JxPxM, b_JxPxM = (np.stack([losses[str(run)] for run in cell[side]]) for side in ("run_a", "run_b"))
    estimate, parts = four_parts(a_JxPxM, b_JxPxM, cell["seed"], cell["draw"], no_draw=no_draw)
    error, half = combine(parts, level)
    interval = (estimate - half, estimate + half)
    n, d = map(float, key)
    runs, patients, masks = a_JxPxM.shape
    return ArmDifference(n, d, runs, patients, masks, estimate, error, level, interval, parts)


def _run_parts(
    values_J: np.ndarray,
    covariance_JxJ: np.ndarray,
    seeds_J: Sequence[object],
    draws_J: Sequence[object],
    no_draw: str | None,
) -> list[Part]:
    """Seed, pool draw and, where they cannot be told apart, both together."""
    draws_J = [0] * len(values_J) if no_draw else list(draws_J)
    found = run_components(values_J, covariance_JxJ, seeds_J, draws_J)
    together = found.pop(SEED_AND_DRAW, None)
    parts = []
    for name, labels_J in ((SEED, list(seeds_J)), (DRAW, draws_J)):
        levels = len(set(map(str, labels_J)))
        if name in found:
            includes = "includes run-to-run noise" if name == DRAW and SEED not in found else None
            parts.append(_part(name, found[name][0], levels, found[name][1], includes))
        elif name == DRAW and no_draw:
            parts.append(Part(DRAW, 0.0, levels, None, no_draw))
        else:
            reason = "it never varies without the other" if together else f"one {name}"
            parts.append(Part(name, None, levels, None, reason))
    if together:
        parts.append(_part(SEED_AND_DRAW, together[0], len(values_J), together[1]))
    return parts


def _part(name: str, variance: float, levels: int, dof: float, note: str | None = None) -> Part:
    """A part whose negative estimate counts as 0 and says so."""
    if variance >= 0:
        return Part(name, variance, levels, dof, note)
    below = f"estimated below 0 ({variance:.2g}), counted as 0"
    return Part(name, 0.0, levels, dof, f"{note}; {below}" if note else below)


def _paired_on(arm_a: RunTable, arm_b: RunTable) -> list[str]:
    drawn = ["pool_shuffle"] if all(_has_pool(arm) and "pool_shuffle" in arm.frame for arm in (arm_a, arm_b)) else []
    return [*PAIRED_ON, *drawn]


def _beside(arm: RunTable, other: RunTable, on: Sequence[str]) -> tuple[str, ...]:
    """pool_shuffle, where draws of this arm may share one run of the other."""
    column = "pool_shuffle"
    if column in on or column not in arm.frame or not _has_pool(arm):
        return ()
    single = not _has_pool(other) or column not in other.frame or other.rows[column].nunique() == 1
    return (column,) if single else ()


def _draws(arm_a: RunTable, arm_b: RunTable, pairs: pd.DataFrame) -> pd.Series:
    """The pool draw of each pair: pool_shuffle of whichever arms hold real data, in one label."""
    label = pd.Series("", index=pairs.index)
    for side, arm in (("run_a", arm_a), ("run_b", arm_b)):
        if _has_pool(arm) and "pool_shuffle" in arm.frame:
            shuffle = arm.rows.set_index("run_id")["pool_shuffle"]
            label += "/" + pairs[side].map(shuffle).astype(str)
    return label


def _has_pool(arm: RunTable) -> bool:
    return bool((arm.rows["real_fraction"] > 0).any())


def _draw_note(arm_a: RunTable, arm_b: RunTable, available: int | None) -> str | None:
    """Why there is no draw to vary, or None when there is."""
    pools = [arm.rows["unique_real_patients"] for arm in (arm_a, arm_b) if _has_pool(arm)]
    if not pools:
        return "no real data"
    if available is not None and all((pool >= available).all() for pool in pools):
        return f"the pool is all {available} patients"
    return None


def _losses(patients: pd.DataFrame, runs: np.ndarray) -> dict[str, np.ndarray]:
    """Losses (P, M) of each run, in the same order of patients and masks."""
    names = patients["run_id"].astype(str)
    tables: dict[str, np.ndarray] = {}
    first: pd.DataFrame | None = None
    grouped = dict(tuple(patients[names.isin(runs)].groupby(names)))
    absent = sorted(set(map(str, runs)) - set(grouped))
    if absent:
        raise ValueError(f"patients table: {len(absent)} of {len(runs)} runs have no rows, first {absent[0]!r}")
    for run, rows in grouped.items():
        table = rows.pivot_table(index="patient_id", columns="mask", values="loss", aggfunc="mean")
        first = table if first is None else first
        if not (table.index.equals(first.index) and table.columns.equals(first.columns)) or table.isna().any(axis=None):
            raise ValueError(
                f"patients table: run {run!r} is scored on {table.count().sum()} (patient, mask) sets, not on the "
                f"{first.size} of the first run; every run needs the same frozen masks"
            )
        tables[str(run)] = table.to_numpy(dtype=float)
    if first is not None and len(first) < 2:
        raise ValueError(f"patients table: {len(first)} patient; a spread over patients needs two")
    if not all((table > 0).all() for table in tables.values()):
        raise ValueError("patients table: losses must be above 0 and finite for a difference of ln L")
    return tables


def _check_agreement(losses: dict[str, np.ndarray], arms: Sequence[RunTable], response: str) -> None:
    for arm in arms:
        stated = arm.rows.set_index(arm.rows["run_id"].astype(str))[response]
        for run in stated.index.intersection(list(losses)):
            mean = float(losses[run].mean())
            if abs(mean / stated[run] - 1) > RUN_TABLE_AGREEMENT:
                raise ValueError(
                    f"run {run!r}: the patients table's mean loss {mean:.6g} is not {arm.source}'s {stated[run]:.6g}; "
                    "give the patients table of the same response"
                )
