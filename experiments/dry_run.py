"""`--dry-run`, the same for every study: what it would take, without reading or writing anything."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from rich.console import Console

from ecg_jax.config import RunConfig
from ecg_jax.forecast import forecast, table

#: Of the frozen response: 226 held-out records under 8 masks.
EVALUATIONS_PER_RUN = 226 * 8


def add_dry_run(parser: argparse.ArgumentParser) -> None:
    """Adds the option."""
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="say what it would take, in runs, FLOPs, memory, and time by a few steps; reads and writes nothing",
    )


def print_forecast(console: Console, runs: Sequence[RunConfig], title: str = "") -> None:
    """Prints what `runs` would take."""
    if title:
        console.print(f"\n{title}", soft_wrap=True)
    console.print(table(forecast(runs, EVALUATIONS_PER_RUN)))
