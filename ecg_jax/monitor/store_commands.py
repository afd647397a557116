"""Commands that look into a store, and move what it holds: status, export, show, merge, replay."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from ecg_jax.store.finished import read_config, read_record
from ecg_jax.store.layout import Store, studies
from ecg_jax.terminal.command import command


@command
def status(arguments: Sequence[str] | None = None) -> None:
    """What of every study is done."""
    from ecg_jax.monitor import status as look

    parser = _parser("status", "What is done, running, waiting and failed, per study, and the time left.")
    parser.add_argument("--watch", action="store_true", help="look again every few seconds until all is done")
    options = parser.parse_args(arguments)
    stores, console = studies(options.store), Console(highlight=False)
    if options.watch:
        look.watch(stores, console)
        return
    for store in stores:
        console.print(look.shown(look.status(store)), soft_wrap=True)


@command
def export(arguments: Sequence[str] | None = None) -> None:
    """The tables of every study."""
    from ecg_jax.store.tables import export as write_tables

    parser = _parser("export", "Write runs.csv, patients.csv, sources.csv and curve.csv of every study.")
    parser.add_argument("--out", type=Path, help="where to (default: the study's own folder)")
    options = parser.parse_args(arguments)
    for store in studies(options.store):
        for path in write_tables(store, options.out / store.study if options.out else store.path).values():
            print(path)


@command
def show(arguments: Sequence[str] | None = None) -> None:
    """One run."""
    parser = _parser("show", "A run's config and record, as JSON.")
    parser.add_argument("run", metavar="RUN", help="the id of a run, or how it begins")
    options = parser.parse_args(arguments)
    print(run_json(options.store, options.run))


@command
def merge(arguments: Sequence[str] | None = None) -> None:
    """The runs of one store into another."""
    from ecg_jax.store.merge import merge as merge_studies

    parser = argparse.ArgumentParser(
        prog="ecg-jax merge", description="Copy the finished runs of one store into another."
    )
    parser.add_argument("store", type=Path, metavar="FROM", help="the store to copy from, which stays as it is")
    parser.add_argument("into", type=Path, metavar="INTO", help="the store to copy into")
    options = parser.parse_args(arguments)
    for store in studies(options.store):
        merged = merge_studies(store, Store(options.into, store.study))
        print(
            f"{store.study}: {merged.copied} runs copied; {merged.held_by_both} in both, their losses at most "
            f"{merged.largest_difference:.2%} apart; {merged.trunks} trunks brought further"
        )
        if merged.busy:
            raise OSError(
                f"{merged.left} runs and their trunks were left to {' and '.join(merged.busy)}, which trains "
                f"them in {options.into}: merge again when it has ended"
            )


@command
def replay(arguments: Sequence[str] | None = None) -> None:
    """The logs of a store for other programs."""
    from ecg_jax.monitor.to_trackers import to_tensorboard, to_wandb

    parser = _parser("replay", "The logs of all runs, for TensorBoard or Weights & Biases.")
    there = parser.add_mutually_exclusive_group(required=True)
    there.add_argument("--tensorboard", type=Path, metavar="DIR", help="as TensorBoard's event files")
    there.add_argument("--wandb", metavar="PROJECT", help="as runs of a project of Weights & Biases")
    options = parser.parse_args(arguments)
    for store in studies(options.store):
        if options.tensorboard is not None:
            count = to_tensorboard(store, options.tensorboard)
            print(f"{store.study}: {count} logs; now: tensorboard --logdir {options.tensorboard}")
        else:
            print(f"{store.study}: {to_wandb(store, options.wandb)} logs in project {options.wandb}")


def run_json(root: Path, run: str) -> str:
    """Config and record of the run whose id begins with `run`, as JSON. Raises ValueError unless one does."""
    found = [path for store in studies(root) for path in sorted(store.path.glob("runs/*")) if path.name.startswith(run)]
    if len(found) != 1:
        names = ", ".join(path.name for path in found[:5]) or "none"
        raise ValueError(f"{len(found)} runs of {root} begin with {run!r} ({names}): give more, or other, digits")
    parts = {"config": read_config(found[0]).stored()} if (found[0] / "config.json").exists() else {}
    if (found[0] / "record.json").exists():
        parts["record"] = read_record(found[0]).record
    return json.dumps(parts, indent=1)


def _parser(name: str, description: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=f"ecg-jax {name}", description=description)
    parser.add_argument("store", type=Path, metavar="STORE", help="the folder that holds studies, as OUT/store")
    return parser
