"""What about a table looks wrong, in plain sentences: units mixed up, losses that rise, compute that does not fit."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

GAP_SUSPICIOUS = 1e5  # between neighbouring values of a variable: some rows are in another unit
COUNTS = {"n_params": "parameters", "n_params_total": "parameters", "params": "parameters", "records_seen": "records"}
COUNT_SUSPICIOUS = 1e3  # no model has so few parameters: the column is in millions or billions
# Counts of FLOPs differ by attention, embeddings and the like, between sizes too; by more than that they contradict.
RATIO_SPREAD, RATIO_SUSPICIOUS = 1.5, 1e3


def mixed_units(rows: pd.DataFrame, columns: Mapping[str, str]) -> list[str]:
    """Variables of which a part, or all, seem to be in another unit."""
    found = []
    for letter, column in columns.items():
        numbers = np.unique(rows[column].to_numpy(dtype=float))
        numbers = numbers[numbers > 0]
        ratio = float((numbers[1:] / numbers[:-1]).max()) if len(numbers) > 1 else 1.0
        if ratio > GAP_SUSPICIOUS:
            found.append(
                f"{letter} = {column!r} jumps by a factor {ratio:.1e} between rows: is a part in another unit?"
            )
        elif column in COUNTS and len(numbers) and numbers[-1] < COUNT_SUSPICIOUS:
            found.append(
                f"{letter} = {column!r} is at most {numbers[-1]:g} {COUNTS[column]}: in millions or billions? The "
                "constants are in that unit"
            )
    return found


def compute_notes(n: np.ndarray, d: np.ndarray, c: np.ndarray, name: str) -> list[str]:
    """How the stated compute `name` and 6 N D of the same rows go together, and whether they contradict each other."""
    ratio = 6 * np.asarray(n, dtype=float) * np.asarray(d, dtype=float) / np.asarray(c, dtype=float)
    low, middle, high = ratio.min(), np.median(ratio), ratio.max()
    if high > RATIO_SPREAD * low:
        return [
            f"6 N D differs from {name} by a factor {low:.3g} to {high:.3g} between rows: N, D and C contradict each "
            "other, and so will the laws of N and of D in C"
        ]
    words = f"6 N D is {middle:.3g} times {name} in all rows (within {100 * (high / low - 1):.2g} %)"
    far = not 1 / RATIO_SUSPICIOUS < middle < RATIO_SUSPICIOUS
    return [f"{words}: is {name} in another unit than FLOPs?" if far else words]
