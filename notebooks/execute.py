"""Runs the notebooks and keeps what they show, light enough to be committed.

    SCALING_DATA_DIR=/path/to/fits python notebooks/execute.py

Figures are kept as PNG of few dots, tables and text as they are printed. `make test` runs the notebooks as well.
"""

from __future__ import annotations

import ast
import base64
import contextlib
import io
import json
import os
import sys
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from ecg_jax.files.whole_file import write_text

#: Dots that a kept figure is wide, about, and the most bytes of a notebook.
WIDTH, MOST_BYTES = 600, 450_000


def png(figure: Figure) -> dict[str, Any]:
    """A figure as the output of a cell."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=WIDTH / figure.get_figwidth(), bbox_inches="tight")
    data = {"image/png": base64.b64encode(buffer.getvalue()).decode(), "text/plain": ["<Figure>"]}
    return {"output_type": "display_data", "data": data, "metadata": {}}


def shown(value: Any, count: int) -> list[dict[str, Any]]:
    """The output of a cell whose last expression has this value."""
    if value is None:
        return []
    if isinstance(value, Figure):
        return [png(value)]
    data: dict[str, Any] = {"text/plain": repr(value).splitlines(keepends=True)}
    if hasattr(value, "_repr_html_"):
        data["text/html"] = value._repr_html_().splitlines(keepends=True)
    return [{"output_type": "execute_result", "execution_count": count, "data": data, "metadata": {}}]


def evaluate(source: str, where: str, namespace: dict[str, Any]) -> Any:
    """Runs a cell in `namespace`, and returns the value of its last expression, None where it ends with none."""
    tree = ast.parse(source)
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, where, "exec"), namespace)
    return None if last is None else eval(compile(ast.Expression(last.value), where, "eval"), namespace)


def run(source: str, where: str, namespace: dict[str, Any], count: int) -> list[dict[str, Any]]:
    """Runs a cell in `namespace`, and returns what it shows."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        value = evaluate(source, where, namespace)
    text = printed.getvalue().splitlines(keepends=True)
    outputs = [{"output_type": "stream", "name": "stdout", "text": text}] if text else []
    outputs += shown(None if source.rstrip().endswith(";") else value, count)
    outputs += [png(plt.figure(number)) for number in plt.get_fignums() if plt.figure(number) is not value]
    plt.close("all")
    return outputs


def execute(path: Path) -> None:
    """Runs a notebook and writes it with its outputs. Raises ValueError when they are too heavy, or tell of a folder of
    this machine."""
    notebook, namespace = json.loads(path.read_text()), {"__name__": path.stem}
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    for count, cell in enumerate(cells, 1):
        print(f"{path.name}: cell {count} of {len(cells)}", file=sys.stderr, flush=True)
        cell["outputs"] = run("".join(cell["source"]), f"{path.name}, {cell['id']}", namespace, count)
        cell["execution_count"] = count
    text = json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"
    if len(text) > MOST_BYTES:
        raise ValueError(f"{path}: {len(text):,} bytes with its outputs, {MOST_BYTES:,} at most")
    told = [folder for folder in (os.getcwd(), str(Path.home()), os.environ.get("SCALING_DATA_DIR")) if folder]
    if named := [folder for folder in told if len(folder) > 1 and folder in text]:
        raise ValueError(f"{path}: its outputs name {named}, which are of this machine")
    write_text(path, text)


if __name__ == "__main__":
    for notebook in map(Path, sys.argv[1:] or sorted(map(str, Path(__file__).parent.glob("*.ipynb")))):
        execute(notebook)
