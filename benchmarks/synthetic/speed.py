"""One run of the speed benchmark: measure everything interleaved, then tables and a figure."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
import pandas as pd
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from benchmarks.harness import machine
from benchmarks.harness.timing import Contender, Timed, interleaved
from benchmarks.harness.writing import write_csv, write_figure, write_json
from benchmarks.synthetic import contenders, on_device, speed_figure
from ecg_jax.data.real import data_dir_from_environment
from ecg_jax.data.real.datasets.prepare import prepare_ptbxl
from ecg_jax.data.synthetic.fitted.priors import fit_priors
from ecg_jax.data.synthetic.fitted.surrogate import fit_spectrum
from ecg_jax.data.synthetic.render.generator import Fitted
from ecg_jax.data.synthetic.render.identity import fingerprint
from ecg_jax.data.synthetic.render.tiers import Tier, recipe
from experiments.protocol.neurokit import require_neurokit

RATES_HZ = (100, 500)
TRAIN_FOLDS = tuple(range(1, 9))
FITTED_RECORDS = 200
WHOLE = "whole record"
NO_POOL = "ECG_DATA_DIR is not set: T-1 and T2, which are fitted to real records, are left out"


def run(out: Path, cache: Path, core: int, *, rounds: int, quick: bool) -> None:
    """Runs the benchmark and writes speed.csv, stages.csv, speed.json and speed.png into `out`."""
    require_neurokit()
    console = Console(highlight=False)
    console = console if console.is_terminal else Console(highlight=False, width=140)
    before = machine.describe()
    console.print(f"core {core} of {before['processor']}, load average {before['load_average'][0]}")
    notes = ["the machine is not quiet: load above 1.5"] if before["load_average"][0] > 1.5 else []
    cpu = jax.local_devices(backend="cpu")[0]
    with jax.default_device(cpu):
        fitted = {} if quick else _fitted(cache)
        if not fitted:
            notes.append("--quick: T0 and T1d at 100 Hz only" if quick else NO_POOL)
        timed = _measure(console, _quick() if quick else _all(fitted), rounds, 0.1 if quick else 0.6, cold=not quick)
        # The stages share their programs with the tiers: their first calls mean nothing.
        stages = [c for rate in (RATES_HZ[:1] if quick else RATES_HZ) for c in _stages(rate)]
        timed_stages = _measure(console, stages, rounds, 0.1 if quick else 0.3, cold=False)
    speed, parts = speed_table(timed), stage_table(timed_stages)
    device = pd.DataFrame()
    if jax.default_backend() == "gpu":
        device = on_device.measure(progress=console.print)
        write_csv(device, out / "on_device.csv")
    write_csv(speed, out / "speed.csv")
    write_csv(parts, out / "stages.csv")
    tree = {
        "machine": before | {"load_average_after": [round(load, 2) for load in os.getloadavg()], "pinned_core": core},
        "xla_flags": os.environ["XLA_FLAGS"],
        "generator": fingerprint(recipe(Tier.ACQUISITION)),
        "rounds": rounds,
        "quick": quick,
        "notes": notes,
        "speed": _rows(speed),
        "stages": _rows(parts),
        "on_device": _rows(device),
    }
    write_json(tree, out / "speed.json")
    write_figure(speed_figure.draw(speed, before["processor"]), out / "speed")
    for title, table in (("Records of 10 s per second, per core", speed), ("µs per record", parts), ("GPU", device)):
        if len(table):
            console.print(_printed(title, table))
    console.print("\n".join([*notes, f"wrote {out}"]))


def _fitted(cache: Path) -> dict[Tier, Fitted]:
    """What the fitted tiers know: the first records of the training folds; nothing where there are no recordings."""
    if not os.environ.get("ECG_DATA_DIR"):
        return {}
    pool = prepare_ptbxl(data_dir_from_environment(), cache).in_folds(TRAIN_FOLDS)
    pool = pool.take(np.arange(min(FITTED_RECORDS, len(pool))))
    return {Tier.NOISE: fit_spectrum(pool), Tier.FITTED: fit_priors(pool)}


def _quick() -> list[Contender]:
    tiers = [contenders.tier(t.value, recipe(t), None, 100) for t in (Tier.ECGSYN, Tier.ACQUISITION)]
    peer = [contenders.neurokit(name, 100) for name in (contenders.MULTILEADS, contenders.ECGSYN)]
    return [peer[0], tiers[0], peer[1], tiers[1], contenders.runge_kutta(100), contenders.write_limit(100)]


def _all(fitted: dict[Tier, Fitted]) -> list[Contender]:
    """Peers and ours in turn, rate by rate."""
    found = []
    full = recipe(Tier.ACQUISITION)
    for rate in RATES_HZ:
        ours = [
            contenders.tier(tier.value, recipe(tier), fitted.get(tier), rate)
            for tier in Tier
            if not recipe(tier).needs_priors or (rate == 100 and tier in fitted)
        ]
        ours += [contenders.annotated(full, rate)] + ([contenders.training(full)] if rate == 100 else [])
        others = [contenders.neurokit(name, rate) for name in (contenders.MULTILEADS, contenders.ECGSYN)]
        others += [contenders.runge_kutta(rate), contenders.write_limit(rate)]
        for turn in range(max(len(ours), len(others))):
            found += others[turn : turn + 1] + ours[turn : turn + 1]
    return found


def _stages(rate: int) -> list[Contender]:
    made_by = recipe(Tier.ACQUISITION)
    return [*contenders.stages(made_by, rate), contenders.tier(WHOLE, made_by, None, rate)]


def _measure(console: Console, listed: list[Contender], rounds: int, budget_s: float, *, cold: bool) -> list[Timed]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("", total=None)
        clear: Callable[[], None] = jax.clear_caches if cold else lambda: None
        return interleaved(
            listed,
            rounds,
            budget_s,
            before_first_call=clear,
            progress=lambda what, done, total: bar.update(task, description=what, completed=done, total=total),
        )


def speed_table(timed: list[Timed]) -> pd.DataFrame:
    """One row per contender and rate: records per second (best, median), ratio to multileads, first call.

    The ratio is the median over rounds of the ratio within a round, and its least and greatest round beside it.
    """
    base = {t.contender.sample_rate_hz: t for t in timed if t.contender.name == contenders.MULTILEADS}
    rows = []
    for t in sorted(timed, key=lambda t: t.contender.sample_rate_hz):
        per_round = base[t.contender.sample_rate_hz].seconds_per_record / t.seconds_per_record
        rows.append(
            {
                "contender": t.contender.name,
                "sample_rate_hz": t.contender.sample_rate_hz,
                "best_per_s": t.best_per_s,
                "median_per_s": t.median_per_s,
                "ratio_of_best": t.best_per_s / base[t.contender.sample_rate_hz].best_per_s,
                "ratio_median": float(pd.Series(per_round).median()),
                "ratio_min": float(per_round.min()),
                "ratio_max": float(per_round.max()),
                "first_call_s": t.first_call_s,
            }
        )
    return pd.DataFrame(rows)


def stage_table(timed: list[Timed]) -> pd.DataFrame:
    """µs per record of every stage of T1d, of the whole in the same rounds, and of the rest that no stage takes."""
    rows = []
    for rate in sorted({t.contender.sample_rate_hz for t in timed}):
        own = {t.contender.name: 1e6 * t.seconds_per_record for t in timed if t.contender.sample_rate_hz == rate}
        best, median = ({name: float(of(us)) for name, us in own.items()} for of in (np.min, np.median))
        for found in (best, median):
            parts = sum(us for name, us in found.items() if name not in ("stage fiducials", WHOLE))
            found["rest: dispatch, allocation"] = found[WHOLE] - parts
        rows += [
            {
                "stage": name.removeprefix("stage "),
                "sample_rate_hz": rate,
                "best_us": best[name],
                "median_us": median[name],
            }
            for name in best
        ]
    return pd.DataFrame(rows)


def _rows(table: pd.DataFrame) -> list[dict[str, object]]:
    return [{str(key): value for key, value in row.items()} for row in table.to_dict("records")]


def _printed(title: str, table: pd.DataFrame) -> Table:
    printed = Table(title=title)
    for name in table.columns:
        printed.add_column(name.replace("_", " "), justify="right" if name != table.columns[0] else "left")
    for row in table.itertuples(index=False):
        printed.add_row(*map(_cell, row))
    return printed


def _cell(value: object) -> str:
    if not isinstance(value, float):
        return str(value)
    return f"{value:,.0f}" if abs(value) >= 1e4 else f"{value:,.4g}"
