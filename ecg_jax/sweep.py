"""Sweeps: from axes to run configs, what of them is done, and doing the rest.

    python -m ecg_jax.sweep status STORE      what is done and what is left, per study
    python -m ecg_jax.sweep export STORE      runs.csv, patients.csv and curve.csv of every study

An axis is a list of values for a field, `"data.real_fraction": [0, 0.5, 1]`; `grid` takes their product, `zip_axes`
walks them together, and sweeps are chained with `+`.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ecg_jax.config import RunConfig
from ecg_jax.flops import parameters
from ecg_jax.store import Store, export


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
    options = parser.parse_args(arguments)
    try:
        for store in studies(options.store):
            if options.command == "status":
                print(status(store))
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
