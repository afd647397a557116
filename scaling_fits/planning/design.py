"""Which runs to do next so that one number of a law becomes tightest for the FLOPs, and how many runs it takes.

Locally optimal design: near the fitted constants a quantity with gradient g has variance g^T B^-1 M B^-1 g, where every
run adds to B = J^T J and every trunk to M = J^T Sigma J, Sigma being its noise (Chernoff 1953; Atkinson, Donev & Tobias
2007, chapters 10, 11, 17; the sandwich because the fit weights rows alike, however their noise is shared). Because the
constants are only estimates, runs are chosen for the mean over bootstrap draws of them (Pronzato & Walter 1985).
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd
from scipy import stats

from scaling_fits.estimation.problem import log_predictions
from scaling_fits.fit import Fit
from scaling_fits.mixing.best_mix import best_fractions
from scaling_fits.planning.fisher_information import LocalInformation, Quantity, Width, finite, linearise
from scaling_fits.uncertainty.bootstrap import published

EXCHANGES = 4
LEAST_GAIN = 1e-3  # of ln variance: a run that does less is not worth doing
KINDS_PRINTED = 20
ENDLESS, BISECTIONS = 1e9, 60


def constant(name: str) -> Quantity:
    """A constant of the law under its published name."""

    def evaluate(fit: Fit, theta_SxP: np.ndarray) -> np.ndarray:
        if name not in fit.law.names:
            raise ValueError(f"{fit.law.name} has the constants {list(fit.law.names)}, not {name!r}")
        return published(fit.observations, theta_SxP)[:, fit.law.names.index(name)]

    return Quantity(name, evaluate)


def prediction(**variables: float) -> Quantity:
    """The response at one point, named by the letters of the formula: `prediction(N=3e7, R=1e5, S=1e5, U=1487)`."""

    def evaluate(fit: Fit, theta_SxP: np.ndarray) -> np.ndarray:
        if set(variables) != set(fit.law.letters):
            raise ValueError(f"{fit.law.name}: give exactly {fit.law.letters}, not {sorted(variables)}")
        values = {letter: np.array([float(value)]) for letter, value in variables.items()}
        x = fit.law.prepare(values, fit.observations.references)
        log_loss_S = log_predictions(fit.law, theta_SxP, x)[:, 0] + fit.observations.references["L"]
        return fit.link.backward(np.exp(log_loss_S))

    return Quantity("response at " + ", ".join(f"{k} = {v:g}" for k, v in variables.items()), evaluate)


def best_fraction(*, n: float, records: float, pool: float) -> Quantity:
    """r* of `mix.best_mix`; at an edge it does not move, and no design for it can be computed."""

    def evaluate(fit: Fit, theta_SxP: np.ndarray) -> np.ndarray:
        return best_fractions(fit, theta_SxP, n=n, records=records, pool=pool)

    return Quantity(f"r* at N = {n:g}, D = {records:g}, pool {pool:g}", evaluate, step=1e-3)


@dataclass(frozen=True)
class Design:
    """Runs to do next: `rows` are rows of the candidates (a row may stand several times: other seeds) in their order.

    `before`, `after` are half-widths of `quantity` at `level`; standard deviations are of ln response.
    """

    quantity: str
    value: float
    criterion: str
    budget: float
    flops: float
    rows: tuple[dict[str, float | str], ...]
    before: Width
    after: Width
    noise_sd: float
    trunk_sd: float
    level: float
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, object]:
        """Plain values for JSON; infinite widths are null."""
        plain = asdict(self)
        for name in ("before", "after"):
            ends = plain[name]["draws"]
            plain[name]["at_fit"] = finite(plain[name]["at_fit"])
            plain[name]["draws"] = None if ends is None else [finite(end) for end in ends]
        return plain

    def __str__(self) -> str:
        frame = pd.DataFrame(self.rows)
        lines = [
            f"{self.quantity} = {self.value:.4g}: {self.criterion}-optimal runs for {self.budget:.3g} FLOPs, "
            f"{self.flops:.3g} used, noise sd {self.noise_sd:.3g}, trunk sd {self.trunk_sd:.3g}",
            f"  {100 * self.level:g} % half-width before {self.before}",
            f"  after {self.after}",
        ]
        kinds = list(frame.groupby(list(frame), sort=False).size().items()) if len(frame) else []
        for values, count in kinds[:KINDS_PRINTED]:
            words = [f"{k} = {v:g}" if isinstance(v, float) else f"{k} = {v}" for k, v in zip(frame, values)]
            lines.append(f"  {count} × " + ", ".join(words))
        if len(kinds) > KINDS_PRINTED:
            lines.append(f"  and {len(kinds) - KINDS_PRINTED} more kinds of runs; {len(frame)} runs in all")
        return "\n".join([*lines, *(f"  NOTE: {note}" for note in self.notes)])


@dataclass(frozen=True)
class RunsNeeded:
    """How many runs in the proportions of a plan bring the half-width of `quantity` to `relative` of its value.

    `runs` and `flops` are None where no number does (`limit` is the half-width, relative, that endless repetition
    reaches). `runs_80` is what suffices for 80 % of the draws of the constants, None where none does.
    """

    quantity: str
    value: float
    relative: float
    now: float
    runs: int | None
    flops: float | None
    runs_80: int | None
    limit: float
    level: float
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, object]:
        """Plain values for JSON; infinite widths are null."""
        return {**asdict(self), "now": finite(self.now), "limit": finite(self.limit)}

    def __str__(self) -> str:
        aim, now = f"± {100 * self.relative:g} %", f"now ± {100 * self.now:.3g} %"
        if math.isinf(self.now):
            now = "now not identified"
        words = f"{self.runs} more runs ({self.flops:.3g} FLOPs)" if self.runs is not None else "no number of such runs"
        many = "no number" if self.runs_80 is None else f"{self.runs_80}"
        lines = [f"{self.quantity} = {self.value:.4g} to {aim} ({100 * self.level:g} %): {words}; {now}"]
        lines.append(f"  {many} for 80 % of the draws of the constants")
        if self.runs is None:
            lines.append(f"  endless repetition reaches ± {100 * self.limit:.3g} %: not identified by this plan")
        return "\n".join([*lines, *(f"  NOTE: {note}" for note in self.notes)])


def next_runs(
    fit: Fit,
    candidates: pd.DataFrame,
    quantity: Quantity,
    *,
    budget: float,
    criterion: str = "c",
    noise_sd: float | None = None,
    trunk_sd: float = 0.0,
    repeats: int = 3,
) -> Design:
    """Runs from `candidates` that make `quantity` tightest for at most `budget` FLOPs in all.

    `candidates` has a column per letter of the formula and `flops`; rows that share a `trunk_id` are taken together,
    each at most `repeats` times. `criterion` is "c" for the quantity, "D" for all constants. `noise_sd` and `trunk_sd`
    are standard deviations of ln response between rows and between trunks; the first is that of the fit's residuals
    unless given. Chosen greedily, by gain and by gain per FLOP, then exchanged while that helps. ValueError for missing
    columns, wrong numbers, or where the budget buys nothing.
    """
    if criterion not in ("c", "D"):
        raise ValueError(f'criterion must be "c" (one quantity) or "D" (all constants), not {criterion!r}')
    local = linearise(fit, candidates, quantity, noise_sd, trunk_sd)
    if not (budget > 0 and local.cost_C.min() <= budget):
        raise ValueError(f"{budget:g} FLOPs buy none of the candidates; the cheapest costs {local.cost_C.min():g}")
    counts_C = _chosen(local, budget, criterion, repeats)
    before, after = local.width(0 * counts_C), local.width(counts_C)
    taken = [local.members[unit] for unit, count in enumerate(counts_C) for _ in range(count)]
    rows = candidates.iloc[np.concatenate([*taken, np.array([], dtype=int)])].to_dict("records")
    notes = _notes(fit, local, quantity)
    if math.isinf(before.at_fit):
        found = "the chosen runs identify it" if math.isfinite(after.at_fit) else "nor by what this budget buys"
        notes.insert(0, f"{quantity.name} is not identified by the rows fitted; {found}")
    return Design(
        quantity=quantity.name,
        value=float(local.value_K[0]),
        criterion=criterion,
        budget=float(budget),
        flops=float(counts_C @ local.cost_C),
        rows=tuple({str(k): v if isinstance(v, str) else float(v) for k, v in row.items()} for row in rows),
        before=before,
        after=after,
        noise_sd=local.noise_sd,
        trunk_sd=float(trunk_sd),
        level=local.level,
        notes=tuple(notes),
    )


def predicted_error(
    fit: Fit,
    runs: pd.DataFrame | None,
    quantity: Quantity,
    *,
    noise_sd: float | None = None,
    trunk_sd: float = 0.0,
) -> float:
    """Standard error of `quantity` from the rows fitted and `runs` (None: without more); infinite if not identified."""
    first = {letter: column[:1] for letter, column in fit.observations.values.items()}
    rows = pd.DataFrame(first | {"flops": 1.0}) if runs is None else runs
    local = linearise(fit, rows, quantity, noise_sd, trunk_sd, draws=0)
    counts_C = np.full(len(local.cost_C), 0 if runs is None else 1)
    return float(local.half_widths(counts_C)[0] / stats.norm.ppf((1 + local.level) / 2))


def runs_needed(
    fit: Fit,
    plan: pd.DataFrame,
    quantity: Quantity,
    *,
    relative: float = 0.05,
    noise_sd: float | None = None,
    trunk_sd: float = 0.0,
) -> RunsNeeded:
    """How many runs in the proportions of `plan` (columns as in `next_runs`) bring `quantity` to ± `relative`.

    The plan is repeated in full and in part; ValueError for a `relative` not above 0.
    """
    if not relative > 0:
        raise ValueError(f"relative must be above 0, not {relative}; 0.05 is ±5 %")
    local = linearise(fit, plan, quantity, noise_sd, trunk_sd)
    aim_K = relative * np.abs(local.value_K)

    def wide(times_K: np.ndarray) -> np.ndarray:
        return ~(local.half_widths(np.outer(times_K, np.ones(len(local.cost_C)))) <= aim_K)

    low, high = np.full(len(aim_K), 1e-9), np.full(len(aim_K), ENDLESS)
    never, already = wide(high), ~wide(0 * low)
    for _ in range(BISECTIONS):
        middle = np.sqrt(low * high)
        is_wide = wide(middle)
        low, high = np.where(is_wide, middle, low), np.where(is_wide, high, middle)
    runs_K = np.where(never, np.inf, np.where(already, 0.0, np.ceil(high * len(plan) * (1 - 1e-9))))
    runs = None if never[0] else int(runs_K[0])
    many = np.quantile(runs_K[1:], 0.8, method="higher") if len(runs_K) > 1 else np.inf
    value = float(local.value_K[0])
    return RunsNeeded(
        quantity=quantity.name,
        value=value,
        relative=relative,
        now=float(local.half_widths(np.zeros(len(local.cost_C)))[0]) / abs(value),
        runs=runs,
        flops=None if runs is None else float(runs / len(plan) * local.cost_C.sum()),
        runs_80=None if np.isinf(many) else int(many),
        limit=float(local.half_widths(np.full(len(local.cost_C), ENDLESS))[0]) / abs(value),
        level=local.level,
        notes=tuple(_notes(fit, local, quantity)),
    )


def _filled(
    local: LocalInformation, counts_C: np.ndarray, budget: float, criterion: str, repeats: int, *, per_flop: bool
) -> np.ndarray:
    """(C,) counts: units added one by one, best gain (per FLOP) first, while any fits the budget and gains."""
    counts = counts_C.copy()
    while True:
        open_C = (counts < repeats) & (local.cost_C <= budget * (1 + 1e-12) - counts @ local.cost_C)
        gain_C = local.scores(counts, criterion) - local.scores(counts, criterion, one_more=True)
        worth_C = np.where(open_C & (gain_C > LEAST_GAIN), gain_C / (local.cost_C if per_flop else 1.0), -np.inf)
        if np.isneginf(worth_C).all():
            return counts
        counts[worth_C.argmax()] += 1


def _chosen(local: LocalInformation, budget: float, criterion: str, repeats: int) -> np.ndarray:
    """(C,) counts: the better greedy design, then Fedorov's exchange (1972): one out, filled again, kept if better."""

    def filled(counts_C: np.ndarray) -> tuple[float, np.ndarray]:
        trials = [_filled(local, counts_C, budget, criterion, repeats, per_flop=paid) for paid in (True, False)]
        return min(((float(local.scores(trial, criterion)[0]), trial) for trial in trials), key=lambda both: both[0])

    score, best = filled(np.zeros(len(local.cost_C), dtype=int))
    for _ in range(EXCHANGES):
        before = score
        for unit in np.flatnonzero(best):
            if best[unit]:
                without = best - (np.arange(len(best)) == unit)
                reached, trial = filled(without)
                if reached < score - 1e-9:
                    score, best = reached, trial
        if score == before:
            break
    return best


def _notes(fit: Fit, local: LocalInformation, quantity: Quantity) -> list[str]:
    """Where a local design says less than it seems to."""
    notes = []
    if not local.gradient_KxP[0].any():
        notes.append(f"{quantity.name} is at an edge, where it does not move: its width cannot be computed")
    names = [interval.name for interval in fit.profiles if not interval.identified]
    if names:
        notes.append(f"open profiles: {', '.join(names)}; {quantity.name} may be wider than is computed here")
    return notes
