"""Looking into a store, and moving what it holds.

python -m ecg_jax status STORE      what is done, running, waiting and failed (--watch: as it goes on)
python -m ecg_jax export STORE      runs.csv, patients.csv, sources.csv and curve.csv of every study
python -m ecg_jax show STORE RUN    a run's config and record; RUN may be the beginning of its id
python -m ecg_jax merge FROM INTO   the finished runs of one store into another
python -m ecg_jax replay STORE      the logs, for TensorBoard or Weights & Biases
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from ecg_jax.store.finished import read_config, read_record
from ecg_jax.store.layout import Store, studies
from ecg_jax.store.tables import export
from ecg_jax.terminal.command import command


def show(root: Path, run: str) -> str:
    """Config and record of the run whose id begins with `run`, as JSON. Raises ValueError unless one does."""
    found = [path for store in studies(root) for path in sorted(store.path.glob("runs/*")) if path.name.startswith(run)]
    if len(found) != 1:
        names = ", ".join(path.name for path in found[:5]) or "none"
        raise ValueError(f"{len(found)} runs of {root} begin with {run!r} ({names}): give more, or other, digits")
    parts = {"config": read_config(found[0]).stored()} if (found[0] / "config.json").exists() else {}
    if (found[0] / "record.json").exists():
        parts["record"] = read_record(found[0]).record
    return json.dumps(parts, indent=1)


@command
def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    options = _parser().parse_args(arguments)
    if options.command == "show":
        print(show(options.store, options.run))
    else:
        _do(options, studies(options.store))


def _do(options: argparse.Namespace, stores: Sequence[Store]) -> None:
    # Here: these build on what a sweep is.
    from ecg_jax.monitor import status
    from ecg_jax.monitor import to_trackers as replay
    from ecg_jax.store.merge import merge

    console = Console(highlight=False)
    if options.command == "status" and options.watch:
        status.watch(stores, console)
        return
    for store in stores:
        match options.command:
            case "status":
                console.print(status.shown(status.status(store)), soft_wrap=True)
            case "merge":
                merged = merge(store, Store(options.into, store.study))
                print(
                    f"{store.study}: {merged.copied} runs copied; {merged.held_by_both} in both, their losses at most "
                    f"{merged.largest_difference:.2%} apart; {merged.trunks} trunks brought further"
                )
                if merged.busy:
                    raise OSError(
                        f"{merged.left} runs and their trunks were left to {' and '.join(merged.busy)}, which trains "
                        f"them in {options.into}: merge again when it has ended"
                    )
            case "export":
                folder = options.out / store.study if options.out else store.path
                for path in export(store, folder).values():
                    print(path)
            case "replay" if options.tensorboard is not None:
                count = replay.to_tensorboard(store, options.tensorboard)
                print(f"{store.study}: {count} logs; now: tensorboard --logdir {options.tensorboard}")
            case "replay":
                print(f"{store.study}: {replay.to_wandb(store, options.wandb)} logs in project {options.wandb}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m ecg_jax", description=__doc__.partition("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("store", type=Path, metavar="STORE", help="the folder that holds studies, as OUT/store")
    status = commands.add_parser(
        "status", parents=[shared], help="what is done, running, waiting and failed, per study, and the time left"
    )
    status.add_argument("--watch", action="store_true", help="look again every few seconds until all is done")
    export_parser = commands.add_parser(
        "export", parents=[shared], help="write runs.csv, patients.csv, sources.csv and curve.csv of every study"
    )
    export_parser.add_argument("--out", type=Path, help="where to (default: the study's own folder)")
    show_parser = commands.add_parser("show", parents=[shared], help="a run's config and record")
    show_parser.add_argument("run", metavar="RUN", help="the id of a run, or how it begins")
    merge_parser = commands.add_parser("merge", help="copy the finished runs of one store into another")
    merge_parser.add_argument("store", type=Path, metavar="FROM", help="the store to copy from, which stays as it is")
    merge_parser.add_argument("into", type=Path, metavar="INTO", help="the store to copy into")
    replay = commands.add_parser("replay", parents=[shared], help="the logs of all runs, for another program's eyes")
    there = replay.add_mutually_exclusive_group(required=True)
    there.add_argument("--tensorboard", type=Path, metavar="DIR", help="as TensorBoard's event files")
    there.add_argument("--wandb", metavar="PROJECT", help="as runs of a project of Weights & Biases")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
