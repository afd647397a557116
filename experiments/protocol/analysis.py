"""What a study's tables say: the contrasts, the law where data are fresh, convergence, paired differences."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from ecg_jax.config import RunConfig
from ecg_jax.store.tables import IDENTITIES
from scaling_fits.contrasts.contrasts import (
    PatientDifference,
    Slope,
    contrasts_json,
    paired_patient_difference,
    protocol_contrasts,
)
from scaling_fits.convergence.times import SpeedRatio, add_axes, records_to_close, records_to_target, speed_ratio
from scaling_fits.files import write_text
from scaling_fits.fit import Fit, fit
from scaling_fits.laws.data_mix import COMMON_RATE
from scaling_fits.laws.law import Law
from scaling_fits.laws.size_and_data import CHINCHILLA
from scaling_fits.tables.run_table import RunTable, read_runs

WARNING = (
    "A study this small settles nothing: it shows every part at work on a few minutes of computing. Neither signs nor "
    "sizes of its effects may be cited."
)
#: The loss that the absolute convergence speed is measured to, as a share of the mean baseline's.
TARGET_SHARE = 0.6
#: The mix of the headline, fixed in advance.
MIX = 0.5


@dataclasses.dataclass(frozen=True)
class Findings:
    """Everything the report tells. A part that the design cannot give is None, and `refused` says why."""

    table: RunTable
    curves: pd.DataFrame
    target: float
    law: Fit | None
    mixed_law: Fit | None
    contrasts: tuple[Slope, ...]
    contrasts_total: tuple[Slope, ...]
    paired: dict[str, PatientDifference]
    speed: dict[str, SpeedRatio]
    closing: pd.DataFrame
    refused: dict[str, str]


def analyse(folder: Path, note: str) -> Findings:
    """Reads the tables in `folder`, fits, and writes `fits.json` there."""
    table = read_runs(pd.read_csv(folder / "runs.csv", dtype=IDENTITIES))
    if table.rows.empty:
        raise ValueError(f"{folder / 'runs.csv'}: every run is left out ({table.excluded}); train longer: --budgets")
    curves, patients = (pd.read_csv(folder / f"{name}.csv", dtype=IDENTITIES) for name in ("curve", "patients"))
    if curves.empty:
        raise ValueError(f"{folder / 'curve.csv'}: no trunk reaches its first point; train longer: --budgets")
    refused: dict[str, str] = {}
    law, mixed_law = _laws(table, refused)
    # The absolute target is fixed in advance, on the masks of the curves.
    target = TARGET_SHARE * float(table.frame["curve_loss_mean"].iloc[0])
    times = records_to_target(curves, target)
    contrasts, contrasts_total = _contrasts(table, times, refused)
    findings = Findings(
        table=table,
        curves=curves,
        target=target,
        law=law,
        mixed_law=mixed_law,
        contrasts=contrasts,
        contrasts_total=contrasts_total,
        paired=_paired(table, patients),
        speed=_speed(add_axes(times, table)),
        closing=add_axes(records_to_close(curves, table, baseline="curve_loss_mean"), table),
        refused=refused,
    )
    write_text(folder / "fits.json", json.dumps(_to_json(findings, note), indent=1, sort_keys=True, allow_nan=False))
    return findings


def forgone(runs: Sequence[RunConfig]) -> list[str]:
    """What the analysis of these runs will have to do without, with what it would take; known before any is trained,
    when a run's data need not be known yet."""
    fresh = [run for run in runs if run.data.real_fraction == 0]
    lines = []
    for name, law, rows in (("at r = 0", CHINCHILLA, fresh), ("of all mixes", COMMON_RATE, list(runs))):
        cells = {(run.model, run.budget_records, run.data.real_fraction, run.seed) for run in rows}
        counts = {"runs": len(cells)}
        counts |= {"sizes": len({run.model for run in rows}), "budgets": len({run.budget_records for run in rows})}
        needed = {"runs": len(law.parameters) + 1, "sizes": 2, "budgets": 2}
        if law is COMMON_RATE:
            counts["fractions"], needed["fractions"] = len({run.data.real_fraction for run in rows}), 2
        if rows and any(counts[what] < needed[what] for what in needed):
            wants, has = (", ".join(f"{number} {what}" for what, number in of.items()) for of in (needed, counts))
            lines.append(f"The law {name} will not be fitted: it needs at least {wants}; there will be {has}.")
    return lines


def answer(findings: Findings, note: str) -> list[str]:
    """The answer in a few plain lines."""
    rows = findings.table.rows
    last = rows[rows.records_seen == rows.records_seen.max()]
    lines = [f"Held-out loss after {last.records_seen.max():,} records{f' ({note})' if note else ''}:"]
    grid = last.groupby(["n_params", "real_fraction"])["loss"].mean().unstack()
    for size, losses in grid.iterrows():
        cells = "   ".join(f"r = {fraction:g}: {loss:.3f}" for fraction, loss in losses.items())
        lines.append(f"  {size:>9,} parameters   {cells}")
    lines.append(
        f"  mean baseline {rows.loss_mean.iloc[0]:.3f}, linear map across visible leads {rows.loss_linear.iloc[0]:.3f}"
    )
    lines += [f"  {slope}" for slope in findings.contrasts if slope.primary]
    for rows_fitted, fitted in (("pure synthetic", findings.law), ("all mixes", findings.mixed_law)):
        if fitted is not None:
            constants = ", ".join(f"{name} = {value:.4g}" for name, value in fitted.parameters.items())
            lines.append(f"  {rows_fitted}, {fitted.law.equation}: {constants}")
            lines += [f"    {warning}" for warning in fitted.warnings]
    lines += [f"  {part}: {reason}" for part, reason in findings.refused.items()]
    if findings.table.excluded:
        lines.append(f"  left out of fits: {findings.table.excluded}")
    return [*lines, WARNING]


def _laws(table: RunTable, refused: dict[str, str]) -> tuple[Fit | None, Fit | None]:
    """The law where data are fresh, pure synthetic pretraining, and the protocol's first law of all mixes (M0)."""

    def attempt(what: str, law: Law, rows: Callable[[], RunTable]) -> Fit | None:
        try:
            return fit(law, rows())
        except ValueError as error:
            refused[what] = str(error)
            return None

    fresh = attempt("law at r = 0", CHINCHILLA, lambda: table.where(real_fraction=0).fresh())
    return fresh, attempt("law of the mix", COMMON_RATE, lambda: table)


def _contrasts(
    table: RunTable, times: pd.DataFrame, refused: dict[str, str]
) -> tuple[tuple[Slope, ...], tuple[Slope, ...]]:
    """The protocol's contrasts in parameters of blocks, and in all parameters."""
    fractions = sorted(set(table.rows["real_fraction"]))
    if not {0.0, MIX} <= set(fractions):
        refused["contrasts"] = f"they need real fractions 0 and {MIX:g}; the study has {fractions}"
        return (), ()
    try:
        blocks, total = (protocol_contrasts(table, mix=MIX, times=times, n=n) for n in ("n_params", "n_params_total"))
    except ValueError as error:  # such as of a study in the midst of growing
        refused["contrasts"] = str(error)
        return (), ()
    return blocks, total


def _paired(table: RunTable, patients: pd.DataFrame) -> dict[str, PatientDifference]:
    """Paired differences over patients of the mix against the pure arms, at the largest budget, per size and seed."""
    rows = table.rows
    rows = rows[rows.records_seen == rows.records_seen.max()]
    found = {}
    for (size, seed), cell in rows.groupby(["n_params", "seed"]):
        run_of = cell.set_index("real_fraction")["run_id"]
        for pure in (0.0, 1.0):
            if {MIX, pure} <= set(run_of.index):
                name = f"N = {size}, seed {seed}: r = {MIX:g} against r = {pure:g}"
                found[name] = paired_patient_difference(patients, run_of[MIX], run_of[pure])
    return found


def _speed(times: pd.DataFrame) -> dict[str, SpeedRatio]:
    """Records and FLOPs of the mix over those of each pure arm, to the absolute target."""
    arms = dict(tuple(times.groupby("real_fraction")))
    return {
        f"{measure}, r = {MIX:g} over r = {pure:g}": speed_ratio(arms[MIX], arms[pure], measure=measure)
        for pure in (0.0, 1.0)
        for measure in ("records", "flops")
        if MIX in arms and pure in arms
    }


def _to_json(findings: Findings, note: str) -> dict[str, Any]:
    """Plain values, and NaN as null."""
    closing = findings.closing.sort_values("trunk_id")
    return {
        "note": note,
        "warning": WARNING,
        "rows": len(findings.table.rows),
        "excluded": findings.table.excluded,
        "target_loss": findings.target,
        "law_pure_synthetic": findings.law.to_dict() if findings.law else None,
        "law_of_the_mix": findings.mixed_law.to_dict() if findings.mixed_law else None,
        "contrasts": json.loads(contrasts_json(findings.contrasts)),
        "contrasts_total_parameters": json.loads(contrasts_json(findings.contrasts_total)),
        "paired_differences": {name: dataclasses.asdict(value) for name, value in findings.paired.items()},
        "speed_ratios": {name: dataclasses.asdict(value) for name, value in findings.speed.items()},
        "records_to_close_90_percent": json.loads(closing.to_json(orient="records", double_precision=15)),
        "refused": findings.refused,
    }
