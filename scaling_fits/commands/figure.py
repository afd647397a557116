"""Figures that commands write."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from scaling_fits.figures.style import save_figure


def save_beside(stem: Path, figure: Figure, data: pd.DataFrame) -> str:
    """What was written, as a line; a folder that was made for it is named."""
    made = "" if stem.parent.exists() else f" (made the folder {stem.parent})"
    return "\nwrote " + ", ".join(path.name for path in save_figure(figure, stem, data)) + made
