"""Pages that stand alone: a Jinja2 template filled with facts, every text escaped, numbers as readers write them."""

from __future__ import annotations

from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

import numpy as np

from ecg_jax.extras import needs

with needs("real"):
    import jinja2


def fill(template: Path | Traversable, **facts: Any) -> str:
    """The page of a template. What it asks for and `facts` lack raises jinja2.UndefinedError, by name."""
    environment = jinja2.Environment(
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["cell"] = cell
    return environment.from_string(template.read_text(encoding="utf-8")).render(**facts)


def cell(value: object) -> str:
    """A value as a table shows it: yes or no, whole numbers with commas, others to four digits, a dash for NaN."""
    if isinstance(value, (bool, np.bool_)):
        return "yes" if value else "no"
    if isinstance(value, (int, np.integer)):
        return f"{value:,}"
    if isinstance(value, (float, np.floating)):
        return "–" if np.isnan(value) else format(value, ",.4g")
    return str(value)
