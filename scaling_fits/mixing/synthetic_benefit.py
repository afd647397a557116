"""Does any synthetic record help? One-sided tests under a fitted law, at equal records and at equal real exposures."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace

import numpy as np
from scipy import stats

from scaling_fits.contrasts.slopes import SMALLEST_EFFECT, UNRESOLVED
from scaling_fits.estimation.problem import jacobian
from scaling_fits.estimation.solver import minimise
from scaling_fits.fit import Fit
from scaling_fits.mixing.queries import (
    Estimate,
    beyond_range,
    check_mixed,
    constants_drawn,
    estimate_of,
    log_losses,
    measured_fractions,
    measured_ranges,
    plain,
    range_notes,
    with_replacement,
)
from scaling_fits.uncertainty.profile_likelihood import references, unit_of_rise

STARTS = 32  # initial points, tried beside the optima when kappa is held


@dataclass(frozen=True)
class SyntheticTest:
    """One-sided tests that synthetic data lower the loss at size `n`, `records`, `pool`.

    `replacement` compares r = 1 with mixes of as many records; `additive` keeps the real exposures and puts synthetic
    records on top (its compute is larger). Each maps a measured fraction below 1 to the gain ln L(r = 1) - ln L(r).
    p-values: of the largest gain by the bootstrap, the search over fractions allowed for (White 2000, reality check);
    `p_kappa` of kappa > 0 among rows with real data by the profile (half the upper tail of F, as kappa = 0 is a bound;
    divided by the clusters' design effect). Rows without real data take no part in it: they show that synthetic records
    are better than none, not that they add to real ones. Each is None where a note says why.
    """

    n: float
    records: float
    pool: float
    replacement: dict[float, Estimate]
    additive: dict[float, Estimate]
    p_replacement: float | None
    p_additive: float | None
    p_kappa: float | None
    level: float
    notes: tuple[str, ...]

    def verdict(self, mixing: str) -> str:
        """ "helps", or "unresolved" (p-value too large or gain below 3.5 %), for mixing "replacement" or "additive"."""
        gains, p_value = {
            "replacement": (self.replacement, self.p_replacement),
            "additive": (self.additive, self.p_additive),
        }[mixing]
        largest = max(gain.value for gain in gains.values())
        helps = p_value is not None and p_value < 1 - self.level and largest > math.log1p(SMALLEST_EFFECT)
        hurts = all(gain.interval is not None and gain.interval[1] < 0 for gain in gains.values())
        return "helps" if helps else "does not help" if hurts else UNRESOLVED

    def to_dict(self) -> dict[str, object]:
        """Plain values for JSON."""
        verdicts = {f"verdict_{mixing}": self.verdict(mixing) for mixing in ("replacement", "additive")}
        return plain({**asdict(self), **verdicts})

    def __str__(self) -> str:
        lines = [f"does synthetic data help at N = {self.n:g}, D = {self.records:g}, pool {self.pool:g}?"]
        for mixing, gains, p_value in (
            ("replacement", self.replacement, self.p_replacement),
            ("additive", self.additive, self.p_additive),
        ):
            words = "; ".join(f"r = {r:g}: {gain}" for r, gain in gains.items())
            p_words = "none" if p_value is None else f"{p_value:.3g}"
            lines.append(f"  {mixing}: {self.verdict(mixing)} (one-sided p {p_words}); ln L(1) - ln L(r): {words}")
        p_words = "none" if self.p_kappa is None else f"{self.p_kappa:.3g}"
        lines.append(f"  kappa > 0 among rows with real data: one-sided p {p_words}")
        lines.append("  without a law: paired rows at r = 0.5 and r = 1, scaling_fits.contrasts")
        return "\n".join([*lines, *(f"  NOTE: {note}" for note in self.notes)])


def synthetic_helps(fit: Fit, *, n: float, records: float, pool: float) -> SyntheticTest:
    """Does any synthetic data help at N = `n`, D = `records` and a pool of `pool`? See `SyntheticTest`.

    In the additive comparison all `records` are real ones. ValueError where no measured fraction lies between 0 and 1.
    """
    check_mixed(fit, n=n, records=records, pool=pool)
    theta = constants_drawn(fit)
    fractions = measured_fractions(fit)
    mixed = fractions[(fractions > 0) & (fractions < 1)]
    if not len(mixed):
        raise ValueError(f"{fit.data.source}: no row mixes real and synthetic records; fractions are {fractions}")
    below = fractions[fractions < 1]
    real_S = with_replacement(fit, theta, n, records, np.ones((1, 1)), pool)
    replacement = real_S - with_replacement(fit, theta, n, records, below[None], pool)
    additive = real_S - log_losses(fit, theta, n, records, records * (1 / mixed[None] - 1), pool)
    p_kappa, why = _kappa_test(fit)
    most = records / mixed.min()
    more = (beyond_range(fit, "records", most),) if most > measured_ranges(fit)["records"][1] * (1 + 1e-9) else ()
    return SyntheticTest(
        *(float(n), float(records), float(pool)),
        {float(r): estimate_of(fit, replacement[:, i]) for i, r in enumerate(below)},
        {float(r): estimate_of(fit, additive[:, i]) for i, r in enumerate(mixed)},
        _reality_check(replacement),
        _reality_check(additive),
        p_kappa,
        fit.draws.plan.level,
        (*range_notes(fit, n, records, pool, records / pool), *more, *why),
    )


def _reality_check(gain_SxG: np.ndarray) -> float | None:
    """p-value of the largest gain against draws of the largest of the gains about their estimates."""
    if len(gain_SxG) == 1:
        return None
    exceeds = (gain_SxG[1:] - gain_SxG[0]).max(axis=1) >= gain_SxG[0].max()
    return float((1 + exceeds.sum()) / (1 + len(exceeds)))


def _kappa_test(fit: Fit) -> tuple[float | None, tuple[str, ...]]:
    """One-sided p-value of kappa > 0 among rows with real data, or why there is none."""
    data = fit.observations
    keep = data.values["R"] > 0
    theta_P, names = fit.theta_KxP[0], fit.law.names
    at, pins = names.index("kappa"), dict(data.problem.fixed)
    if at in pins:
        return None, ("no test of kappa: it was held fixed",)
    # A gap that only rows without real data have is not there to be fitted.
    gone = ~jacobian(data.problem, theta_P)[keep].any(axis=0)
    pins |= {int(p): float(theta_P[p]) for p in np.flatnonzero(gone)}
    whole = replace(data.problem, fixed=tuple(sorted(pins.items())), weight_N=data.problem.weight_N * keep)
    starts = np.concatenate([fit.theta_KxP, fit.initial_SxP[:STARTS]])
    starts[:, list(pins)] = list(pins.values())
    low, high = whole.bounds
    null = minimise(whole, starts, box=(low, np.where(np.arange(len(high)) == at, low, high)))
    ends = minimise(whole, np.concatenate([starts, null.theta_SxP]))
    best = int(ends.objective_S.argmin())
    problem = replace(
        whole,
        x={letter: column[keep] for letter, column in whole.x.items()},
        log_y_N=whole.log_y_N[keep],
        weight_N=whole.weight_N[keep],
        sd_N=whole.sd_N[keep],
    )
    spare = int(keep.sum()) - problem.free
    if spare < 1 or not np.isfinite(null.objective_S.min()):
        return None, (f"no test of kappa: {keep.sum()} rows with real data and {problem.free} constants",)
    rise = max(float(null.objective_S.min() - ends.objective_S[best]), 0.0)
    cluster_N = np.unique(data.cluster_N[keep], return_inverse=True)[1]
    unit_P, dof_P = references(problem, ends.theta_SxP[best], cluster_N)
    if not math.isfinite(unit_P[at]):
        return None, (
            f"no test of kappa: rows with real data depend on each other within {cluster_N.max() + 1} clusters",
        )
    statistic = rise / max(unit_P[at], unit_of_rise(problem, ends.theta_SxP[best]))
    # Without kappa a law's kappa_1 or T means nothing; they are counted, which is cautious.
    tested = 1 + len({"kappa_1", "T"} & set(names))
    return float(stats.f.sf(statistic / tested, tested, dof_P[at])) * (0.5 if tested == 1 else 1.0), ()
