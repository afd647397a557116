"""`--dry-run`, the same for every study: what it would take, without reading data or writing anything."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from ecg_jax.config import RunConfig
from ecg_jax.store.layout import Store, studies
from ecg_jax.study.forecast import UTILISATION, Pace, forecast, measured, recorded, stated, table

#: Of the frozen response: 226 held-out records under 8 masks.
EVALUATIONS_PER_RUN = 226 * 8


def add_dry_run(parser: argparse.ArgumentParser) -> None:
    """Adds the option, and those that say where its times come from."""
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="say what it would take, in runs, FLOPs, memory and time; reads no data, writes and times nothing: time "
        "is at the rate of the runs that are done in --out, or else at a stated share of what the machine can do",
    )
    pace = parser.add_argument_group("where the times of --dry-run come from")
    pace.add_argument(
        "--measure", action="store_true", help="from a few steps of every size here, for a minute or more"
    )
    pace.add_argument(
        "--utilisation",
        type=float,
        metavar="SHARE",
        help=f"of the peak that training is said to reach (default: {UTILISATION}, where no run is done)",
    )
    pace.add_argument("--peak", type=float, metavar="FLOPS", help="FLOP/s of one device (default: as published)")


def is_dry_run(options: argparse.Namespace) -> bool:
    """Whether only a forecast is wanted. Raises ValueError where options ask for one and contradict each other, or are
    of no effect."""
    said = [name for name in ("measure", "utilisation", "peak") if getattr(options, name) not in (None, False)]
    if said and not options.dry_run:
        raise ValueError(f"--{said[0]} says where the times of --dry-run come from: give it together with --dry-run")
    if options.measure and len(said) > 1:
        raise ValueError(f"--measure finds out what --{said[1]} states: give one of them")
    return options.dry_run


def pace_of(options: argparse.Namespace, console: Console) -> Pace:
    """The pace that the options ask for."""
    if options.measure:
        return measured(console)
    if options.utilisation is None and options.peak is None and (done := recorded(_studies(options.out / "store"))):
        return done
    return stated(UTILISATION if options.utilisation is None else options.utilisation, options.peak)


def _studies(root: Path) -> list[Store]:
    return studies(root) if any(root.glob("*/study.json")) else []


def print_forecast(console: Console, runs: Sequence[RunConfig], pace: Pace, title: str = "") -> None:
    """Prints what `runs` would take."""
    if title:
        console.print(f"\n{title}", soft_wrap=True)
    console.print(table(forecast(runs, EVALUATIONS_PER_RUN, pace), pace.note))
