"""Backtests: fit what was cheap, predict what was dear, score the errors, pair them across laws.

A law is for extrapolation, so that is what it is scored on (Alabdulmohsin et al. 2022, arXiv:2209.06640). All scores of
error are of ln of the number the law describes (the loss, or the odds of error under a logit link).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from scaling_fits.errors import reason_of
from scaling_fits.estimation.columns import Columns
from scaling_fits.estimation.estimators import HUBER_HOFFMANN, Estimator
from scaling_fits.estimation.multistart import Search
from scaling_fits.fit import Fit, fit
from scaling_fits.laws.law import Law
from scaling_fits.tables.run_table import RunTable, read_runs, require_columns
from scaling_fits.uncertainty.bootstrap import Bootstrap

REPLICATES = 400
CRPS_LEVELS = np.arange(1, 20, 2) / 20  # of central intervals; their ends are quantiles 0.025, 0.075, …, 0.975
CLUSTERS_PAIRED_MIN = 3
# Below it the Hessian, scaled to unit diagonal, has a direction that rounding cannot tell from flat.
CURVATURE_FLAT = 1e-8


@dataclass(frozen=True)
class Fold:
    """Rows a law is fitted to, and rows it has to predict; `label` says where the cut lies."""

    label: str
    fitted: RunTable
    held_out: RunTable


def leave_largest_size_out(
    table: RunTable | pd.DataFrame | Path | str, *, size: str = "n_params", response: str = "loss"
) -> tuple[Fold, ...]:
    """One fold: every size but the largest is fitted, the largest predicted. ValueError with a single size."""
    runs = _runs(table, response, size)
    values = np.unique(runs.rows[size].to_numpy(dtype=float))
    return _cut(runs, size, values[-2:-1], len(values))


def rolling_cuts(
    table: RunTable | pd.DataFrame | Path | str,
    by: str = "train_flops",
    *,
    folds: int = 4,
    least_share: float = 0.4,
    response: str = "loss",
) -> tuple[Fold, ...]:
    """Folds with rising cut-offs in column `by` (compute, size or records): fitted at or below, predicted above.

    The first cut leaves at least `least_share` of the rows to fit; later ones are spread over the remaining distinct
    values. ValueError when the column is missing or holds one value.
    """
    if folds < 1 or not 0 < least_share < 1:
        raise ValueError(f"rolling cuts: folds {folds} and least_share {least_share}; need >= 1 and in (0, 1)")
    runs = _runs(table, response, by)
    numbers = runs.rows[by].to_numpy(dtype=float)
    values = np.unique(numbers)
    enough = values[:-1][[(numbers <= value).mean() >= least_share for value in values[:-1]]]
    if not len(enough):
        enough = values[-2:-1]
    picked = np.unique(np.linspace(0, max(len(enough) - 1, 0), folds).round().astype(int))
    return _cut(runs, by, enough[picked] if len(enough) else enough, len(values))


def split_fold(
    fitted: RunTable | pd.DataFrame | Path | str,
    held_out: RunTable | pd.DataFrame | Path | str,
    *,
    label: str = "given split",
    response: str = "loss",
) -> tuple[Fold, ...]:
    """One fold from a benchmark's own training and test tables."""
    return (Fold(label, _runs(fitted, response), _runs(held_out, response)),)


@dataclass(frozen=True)
class Prediction:
    """One law in one fold.

    `log_error_N` is ln prediction minus ln measurement at the held-out rows, `residual_N` the same without logarithms,
    `measured_N` the response, `cluster_N` the name of each row's group. `covered_N` (inside the interval of a new run?)
    and `crps_N` (of ln loss) are None where the bootstrap gave no interval. `reason` says why there is no prediction at
    all, `notes` what else went less than well; nothing is dropped without either.
    """

    fold: str
    law: str
    fitted_rows: int
    held_out_rows: int
    reason: str | None
    notes: tuple[str, ...] = ()
    log_error_N: np.ndarray | None = None
    residual_N: np.ndarray | None = None
    measured_N: np.ndarray | None = None
    cluster_N: np.ndarray | None = None
    covered_N: np.ndarray | None = None
    crps_N: np.ndarray | None = None


@dataclass(frozen=True)
class Score:
    """Errors of one law over held-out rows.

    `rmse_log`, `mae_log`, `crps_log` are of ln loss; `relative_error` is the mean of |prediction / measurement - 1|;
    `r_squared` is 1 - sum of squared errors / sum of squares about the held-out mean, per fold, and negative where
    the mean would have predicted better (None for one row or several folds); `coverage` is that of the intervals for a
    new run.
    """

    law: str
    rows: int
    clusters: int
    rmse_log: float
    mae_log: float
    relative_error: float
    r_squared: float | None
    coverage: float | None
    crps_log: float | None


@dataclass(frozen=True)
class PairedDifference:
    """RMSE of ln loss of `law` minus that of `base` on the same rows; below 0, `law` predicts better.

    The interval is a jackknife over held-out clusters with Student's t (MacKinnon, Nielsen & Webb 2023), given the
    fits: it covers which runs were held out, not which were fitted. None with fewer than 3 clusters, as `reason` says.
    """

    law: str
    base: str
    rows: int
    clusters: int
    law_rmse_log: float
    base_rmse_log: float
    estimate: float
    standard_error: float | None
    interval: tuple[float, float] | None
    level: float
    reason: str | None

    @property
    def improvement(self) -> float:
        """Share of the base's RMSE that `law` takes away; negative when it adds."""
        return -self.estimate / self.base_rmse_log if self.base_rmse_log > 0 else 0.0

    def __str__(self) -> str:
        ends = self.reason if self.interval is None else f"{self.interval[0]:+.4g} to {self.interval[1]:+.4g}"
        return (
            f"{self.law} {self.law_rmse_log:.4g} against {self.base} {self.base_rmse_log:.4g}: "
            f"difference {self.estimate:+.4g} ({100 * self.level:.4g} %: {ends}), {self.rows} rows, "
            f"{self.clusters} clusters"
        )


@dataclass(frozen=True)
class Backtest:
    """Every law in every fold; laws are compared on rows that both predicted, in folds in which both did."""

    laws: tuple[str, ...]
    folds: tuple[str, ...]
    level: float
    predictions: tuple[Prediction, ...]

    @property
    def failures(self) -> dict[str, str]:
        """ "law, fold" to the reason why there is no prediction."""
        return {f"{one.law}, {one.fold}": one.reason for one in self.predictions if one.reason is not None}

    def of(self, law: str) -> tuple[Prediction, ...]:
        """The predictions of one law, fold by fold; ValueError for a law that took no part."""
        if law not in self.laws:
            raise ValueError(f"the backtest has the laws {list(self.laws)}, not {law!r}")
        return tuple(one for one in self.predictions if one.law == law)

    def score(self, law: str, *, fold: str | None = None, common: bool = False) -> Score | None:
        """Score of one law, pooled over its folds or in one; None where nothing was predicted.

        `common` keeps the folds that every law predicted which predicted any, so that scores stand side by side.
        """
        able = [name for name in self.laws if any(one.reason is None for one in self.of(name))]
        shared = self._shared(able) if common else self.folds
        parts = [one for one in self.of(law) if one.reason is None and fold in (None, one.fold) and one.fold in shared]
        return _score(law, parts) if parts else None

    def difference(self, law: str, base: str, *, level: float = 0.95) -> PairedDifference:
        """The paired difference; ValueError when there is no fold in which both predicted."""
        shared = self._shared((law, base))
        if not shared:
            raise ValueError(f"no fold in which both {law} and {base} predicted: {self.failures}")
        sides = [[one for one in self.of(name) if one.fold in shared] for name in (law, base)]
        squares_2xN = np.stack([np.concatenate([one.log_error_N for one in side]) ** 2 for side in sides])
        cluster_N = np.concatenate([one.cluster_N for one in sides[0]])
        return _paired(law, base, squares_2xN, cluster_N, level)

    def table(self) -> pd.DataFrame:
        """One line per law and fold, failures with their reason."""
        lines = []
        for one in self.predictions:
            score = self.score(one.law, fold=one.fold)
            numbers = {} if score is None else {name: getattr(score, name) for name in _SCORES}
            notes = "; ".join(one.notes)
            counts = {"fitted_rows": one.fitted_rows, "held_out_rows": one.held_out_rows}
            lines.append({"law": one.law, "fold": one.fold, **counts, **numbers, "reason": one.reason, "notes": notes})
        return pd.DataFrame(lines)

    def __str__(self) -> str:
        lines = [f"backtest of {len(self.laws)} laws over {len(self.folds)} folds: " + "; ".join(self.folds)]
        for law in self.laws:
            score = self.score(law)
            lines.append(f"  {law}: no prediction" if score is None else "  " + _score_line(score, self.level))
        lines += [f"  {where}: {reason}" for where, reason in self.failures.items()]
        lines += [f"  {one.law}, {one.fold}: {note}" for one in self.predictions for note in one.notes]
        return "\n".join(lines)

    def _shared(self, laws: Sequence[str]) -> tuple[str, ...]:
        failed = {one.fold for one in self.predictions if one.law in laws and one.reason is not None}
        return tuple(fold for fold in self.folds if fold not in failed)


_SCORES = ("rmse_log", "mae_log", "relative_error", "r_squared", "coverage", "crps_log")


def backtest(
    laws: Sequence[Law],
    folds: Sequence[Fold],
    *,
    columns: Columns | Mapping[str, str] | None = None,
    estimator: Estimator = HUBER_HOFFMANN,
    search: Search | None = None,
    bootstrap: Bootstrap | None = None,
    profiles: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Backtest:
    """Fit every law in every fold and predict the fold's held-out rows.

    `columns`, `estimator` and `search` are those of `fit`. With `profiles` the constants that a fold leaves open are
    named in its notes. `progress(done, all)` follows the fits. A law that a fold cannot support, or that does not
    converge there, is recorded with the reason. ValueError for no folds, or two laws of one name.
    """
    names = [law.name for law in laws]
    if not folds or len(set(names)) < len(names):
        raise ValueError(f"backtest: {len(folds)} folds and the laws {names}; need a fold and laws of different names")
    plan = bootstrap if bootstrap is not None else Bootstrap(REPLICATES)
    columns = Columns.of(columns)
    told: dict[str, Any] = {"estimator": estimator, "search": search, "bootstrap": plan, "profiles": profiles}
    found = []
    for fold in folds:
        for law in laws:
            found.append(_predict(law, fold, columns, told))
            if progress is not None:
                progress(len(found), len(folds) * len(laws))
    return Backtest(tuple(names), tuple(fold.label for fold in folds), plan.level, tuple(found))


def _predict(law: Law, fold: Fold, columns: Columns, told: Mapping[str, Any]) -> Prediction:
    """What `law`, fitted as `told`, predicts for the held-out rows, or the reason why it does not."""
    held_out = fold.held_out.rows
    blank = Prediction(fold.label, law.name, len(fold.fitted.rows), len(held_out), None)
    try:
        fitted = fit(law, fold.fitted, columns=columns.known_to(law), **told)
    except ValueError as error:
        return replace(blank, reason=reason_of(error))
    x = {letter: held_out[column].to_numpy(dtype=float) for letter, column in fitted.data.columns.items()}
    measured_N = held_out[fitted.data.response].to_numpy(dtype=float)
    predicted_N = fitted.predict(**x)
    log_error_N = np.log(fitted.link.forward(predicted_N)) - np.log(fitted.link.forward(measured_N))
    if not np.isfinite(log_error_N).all():
        return replace(blank, reason=f"{int((~np.isfinite(log_error_N)).sum())} of the predictions are not finite")
    grouped = fitted.data.cluster_column is not None
    names = held_out[fitted.data.cluster_column] if grouped else held_out.index
    covered_N, crps_N = _intervals(fitted, x, measured_N) if fitted.draws.reason is None else (None, None)
    return replace(
        blank,
        notes=_notes(fitted),
        log_error_N=log_error_N,
        residual_N=predicted_N - measured_N,
        measured_N=measured_N,
        cluster_N=np.asarray(names).astype(str),
        covered_N=covered_N,
        crps_N=crps_N,
    )


def _notes(fitted: Fit) -> tuple[str, ...]:
    """What a reader of the score must know; without profiles, flat directions are all that is seen."""
    notes = [interval.sentence for interval in fitted.profiles if interval.sentence is not None]
    if not fitted.profiles and fitted.certificate.smallest_curvature < CURVATURE_FLAT:
        curvature = fitted.certificate.smallest_curvature
        notes.append(f"some constant is not identified by the fitted rows (smallest curvature {curvature:.1e})")
    if fitted.draws.reason is not None and fitted.draws.plan.replicates > 0:
        notes.append(fitted.draws.reason)
    return tuple(notes)


def _intervals(fitted: Fit, x: Mapping[str, np.ndarray], measured_N: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Inside the interval of a new run (N,), and the CRPS of ln loss (N,).

    The CRPS is twice the pinball loss averaged over quantiles (Laio & Tamea 2007, eq. 9).
    """
    variables: dict[str, Any] = {"new_run": True, **x}
    low_N, high_N = fitted.interval(level=fitted.draws.plan.level, **variables)
    log_N = np.log(fitted.link.forward(measured_N))
    losses = []
    for level in CRPS_LEVELS:
        ends_2xN = np.sort(np.log(fitted.link.forward(fitted.interval(level=float(level), **variables))), axis=0)
        for tau, quantile_N in zip(((1 - level) / 2, (1 + level) / 2), ends_2xN):
            below = log_N - quantile_N
            losses.append(np.maximum(tau * below, (tau - 1) * below))
    return (low_N <= measured_N) & (measured_N <= high_N), 2 * np.mean(losses, axis=0)


def _score(law: str, parts: Sequence[Prediction]) -> Score:
    error_N = np.concatenate([one.log_error_N for one in parts])
    residual_N = np.concatenate([one.residual_N for one in parts])
    measured_N = np.concatenate([one.measured_N for one in parts])
    clusters = len(np.unique(np.concatenate([one.cluster_N for one in parts])))
    spread = float(((measured_N - measured_N.mean()) ** 2).sum())
    scored = all(one.covered_N is not None for one in parts)
    return Score(
        law=law,
        rows=len(error_N),
        clusters=clusters,
        rmse_log=float(np.sqrt(np.mean(error_N**2))),
        mae_log=float(np.mean(np.abs(error_N))),
        relative_error=float(np.mean(np.abs(residual_N / measured_N))),
        r_squared=1 - float((residual_N**2).sum()) / spread if len(parts) == 1 and spread > 0 else None,
        coverage=float(np.mean(np.concatenate([one.covered_N for one in parts]))) if scored else None,
        crps_log=float(np.mean(np.concatenate([one.crps_N for one in parts]))) if scored else None,
    )


def _score_line(score: Score, level: float) -> str:
    parts = [f"{score.law}: RMSE of ln {score.rmse_log:.4g}", f"mean {score.mae_log:.4g}"]
    parts.append(f"relative error {100 * score.relative_error:.3g} %")
    if score.coverage is not None:
        parts.append(f"{100 * level:.0f} % intervals cover {100 * score.coverage:.0f} %")
        parts.append(f"CRPS {score.crps_log:.4g}")
    if score.r_squared is not None:
        parts.append(f"R2 {score.r_squared:.4f}")
    return ", ".join([*parts, f"{score.rows} rows in {score.clusters} clusters"])


def _paired(law: str, base: str, squares_2xN: np.ndarray, cluster_N: np.ndarray, level: float) -> PairedDifference:
    labels, which_N = np.unique(cluster_N, return_inverse=True)
    count, rows = len(labels), len(cluster_N)
    whole = np.sqrt(squares_2xN.mean(axis=1))
    estimate = float(whole[0] - whole[1])
    shape = {"law_rmse_log": float(whole[0]), "base_rmse_log": float(whole[1]), "estimate": estimate, "level": level}
    if count < CLUSTERS_PAIRED_MIN:
        reason = f"no interval: {count} held-out clusters, {CLUSTERS_PAIRED_MIN} are needed"
        return PairedDifference(law, base, rows, count, **shape, standard_error=None, interval=None, reason=reason)
    sums_2xG = np.stack([np.bincount(which_N, weights=side, minlength=count) for side in squares_2xN])
    left_G = rows - np.bincount(which_N, minlength=count)
    roots_2xG = np.sqrt(np.maximum(squares_2xN.sum(axis=1, keepdims=True) - sums_2xG, 0.0) / left_G)
    without_G = roots_2xG[0] - roots_2xG[1]
    error = math.sqrt((count - 1) / count * float(((without_G - estimate) ** 2).sum()))
    half = float(stats.t.ppf((1 + level) / 2, count - 1)) * error
    ends = (estimate - half, estimate + half)
    return PairedDifference(law, base, rows, count, **shape, standard_error=error, interval=ends, reason=None)


def _runs(table: RunTable | pd.DataFrame | Path | str, response: str, by: str | None = None) -> RunTable:
    runs = table if isinstance(table, RunTable) else read_runs(table, response=response)
    if by is not None:
        require_columns(runs.rows, [by], runs.source)
    return runs


def _cut(runs: RunTable, by: str, cuts: np.ndarray, distinct: int) -> tuple[Fold, ...]:
    if not len(cuts):
        raise ValueError(f"{runs.source}: column {by!r} has {distinct} distinct value; a cut needs at least two")
    numbers = runs.frame[by].to_numpy(dtype=float)
    return tuple(
        Fold(
            f"{by} <= {cut:g}",
            replace(runs, frame=runs.frame[numbers <= cut]),
            replace(runs, frame=runs.frame[numbers > cut]),
        )
        for cut in cuts
    )
