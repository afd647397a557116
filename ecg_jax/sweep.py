"""Sweeps: from axes to run configs, what of them is done, and doing the rest.

    python -m ecg_jax.sweep status STORE      what is done and what is left, per study
    python -m ecg_jax.sweep export STORE      runs.csv, patients.csv and curve.csv of every study
    python -m ecg_jax.sweep show STORE RUN    a run's config and record; RUN may be the beginning of its id
    python -m ecg_jax.sweep merge FROM INTO   the finished runs of one store into another

An axis is a list of values for a field, `"data.real_fraction": [0, 0.5, 1]`; `grid` takes their product, `zip_axes`
walks them together, and sweeps are chained with `+`.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ecg_jax.config import RunConfig
from ecg_jax.flops import parameters
from ecg_jax.merge import merge
from ecg_jax.store import Store, export, read_json


def grid(base: RunConfig, axes: Mapping[str, Sequence[Any]]) -> list[RunConfig]:
    """A config for every combination of values; the last axis runs fastest."""
    return [replace(base, dict(zip(axes, values, strict=True))) for values in itertools.product(*axes.values())]


def zip_axes(base: RunConfig, axes: Mapping[str, Sequence[Any]]) -> list[RunConfig]:
    """A config for every position of axes of equal length. Raises ValueError when they are not."""
    return [replace(base, dict(zip(axes, values, strict=True))) for values in zip(*axes.values(), strict=True)]


def replace(config: Any, changes: Mapping[str, Any]) -> Any:
    """`config` with fields replaced, nested ones by their path (`"data.real_fraction"`), all at once."""
    direct = {path: value for path, value in changes.items() if "." not in path}
    for head in {path.partition(".")[0] for path in changes if "." in path}:
        inner = {p.removeprefix(f"{head}."): v for p, v in changes.items() if p.startswith(f"{head}.")}
        direct[head] = replace(direct.get(head, getattr(config, head)), inner)
    return dataclasses.replace(config, **direct)


def trunks(targets: Sequence[RunConfig]) -> list[list[RunConfig]]:
    """The targets grouped by trunk, in order of first appearance."""
    groups: dict[str, list[RunConfig]] = {}
    for target in targets:
        groups.setdefault(target.trunk_id, []).append(target)
    return list(groups.values())


def studies(root: Path) -> list[Store]:
    """The studies under a store. Raises FileNotFoundError when there is none."""
    found = [Store(root, path.parent.name) for path in sorted(root.glob("*/study.json"))]
    if not found:
        raise FileNotFoundError(f"{root} holds no study: expected STORE/<study>/study.json")
    return found


def status(store: Store) -> str:
    """A table of a study's runs, done of planned, by size and real fraction."""
    targets = store.targets()
    done = {target.run_id for target in targets if store.is_done(target)}
    diverged = sum(store.record(t)["diverged"] for t in targets if t.run_id in done)
    lines = [f"{store.study}: {len(done)} of {len(targets)} runs done, {diverged} of them diverged"]
    groups: dict[tuple[int, float], list[bool]] = {}
    for t in targets:
        groups.setdefault((parameters(t.model).blocks, t.data.real_fraction), []).append(t.run_id in done)
    for (size, fraction), states in groups.items():
        lines.append(f"  {size:>13,} parameters  real fraction {fraction:<5g} {sum(states):>4} of {len(states)}")
    return "\n".join(lines)


def show(root: Path, run: str) -> str:
    """Config and record of the run whose id begins with `run`, as JSON. Raises ValueError unless one does."""
    found = [path for store in studies(root) for path in sorted(store.path.glob("runs/*")) if path.name.startswith(run)]
    if len(found) != 1:
        names = ", ".join(path.name for path in found[:5]) or "none"
        raise ValueError(f"{len(found)} runs of {root} begin with {run!r} ({names}): give more, or other, digits")
    parts = {name: read_json(path) for name in ("config", "record") if (path := found[0] / f"{name}.json").exists()}
    return json.dumps(parts, indent=1)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m ecg_jax.sweep", description=__doc__.partition("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("store", type=Path, metavar="STORE", help="the folder that holds studies, as OUT/store")
    commands.add_parser("status", parents=[shared], help="what is done and what is left, per study")
    export_parser = commands.add_parser(
        "export", parents=[shared], help="write runs.csv, patients.csv and curve.csv of every study"
    )
    export_parser.add_argument("--out", type=Path, help="where to (default: the study's own folder)")
    show_parser = commands.add_parser("show", parents=[shared], help="a run's config and record")
    show_parser.add_argument("run", metavar="RUN", help="the id of a run, or how it begins")
    merge_parser = commands.add_parser("merge", help="copy the finished runs of one store into another")
    merge_parser.add_argument("store", type=Path, metavar="FROM", help="the store to copy from, which stays as it is")
    merge_parser.add_argument("into", type=Path, metavar="INTO", help="the store to copy into")
    options = parser.parse_args(arguments)
    try:
        if options.command == "show":
            print(show(options.store, options.run))
            return 0
        for store in studies(options.store):
            if options.command == "status":
                print(status(store))
            elif options.command == "merge":
                merged = merge(store, Store(options.into, store.study))
                print(
                    f"{store.study}: {merged.copied} runs copied; {merged.held_by_both} in both, their losses at most "
                    f"{merged.largest_difference:.2%} apart"
                )
            else:
                folder = options.out / store.study if options.out else store.path
                for path in export(store, folder).values():
                    print(path)
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
