"""The options that benchmarks share. Loads nothing: a process is pinned after it has read them."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_out(parser: argparse.ArgumentParser, name: str) -> None:
    """`--out`, the folder of a benchmark's results."""
    parser.add_argument(
        "--out", type=Path, default=Path("out/benchmarks") / name, help="folder of the results (default: %(default)s)"
    )
