"""Result files that appear whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ecg_jax.files.whole_file import whole_file

#: Okabe & Ito, distinct with any colour vision.
PALETTE = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#000000")


def write_json(tree: Mapping[str, Any], path: Path) -> None:
    """Writes `tree` as indented JSON."""
    _whole(path, lambda part: part.write_text(json.dumps(tree, indent=1, allow_nan=False) + "\n", encoding="utf-8"))


def write_csv(table: pd.DataFrame, path: Path) -> None:
    """Writes `table` to five digits, without its index."""
    _whole(path, lambda part: table.to_csv(part, index=False, float_format="%.5g"))


def write_figure(figure: Figure, path: Path) -> None:
    """Writes `figure` as PNG and PDF beside each other; `path` has no suffix."""
    for kind in ("png", "pdf"):
        _whole(path.with_suffix(f".{kind}"), lambda part, kind=kind: figure.savefig(part, format=kind, dpi=150))


def new_figure(width_in: float, height_in: float) -> Figure:
    """An empty figure that needs no display."""
    figure = Figure(figsize=(width_in, height_in), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _whole(path: Path, write: Callable[[Path], object]) -> None:
    with whole_file(path) as part:
        write(part)
