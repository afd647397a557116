"""What about a table looks wrong, in plain sentences: units mixed up, losses that rise, compute that does not fit."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from scipy import stats

from scaling_fits.laws.law import Law

GAP_SUSPICIOUS = 1e5  # between neighbouring values of a variable: some rows are in another unit
COUNTS = {"n_params": "parameters", "n_params_total": "parameters", "params": "parameters", "records_seen": "records"}
COUNT_SUSPICIOUS = 1e3  # no model has so few parameters: the column is in millions or billions
# Counts of FLOPs differ by attention, embeddings and the like, between sizes too; by more than that they contradict.
RATIO_SPREAD, RATIO_SUSPICIOUS = 1.5, 1e3
ROWS_PAIRED = 1000  # pairs are compared of no more
RISES = 0.5  # rank correlation from which a loss rises


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


def rising_losses(law: Law, values: Mapping[str, np.ndarray], log_y_N: np.ndarray) -> list[str]:
    """Sizes and data with which the loss rises, though laws let it fall: over rows that agree in all else, if any."""
    found = []
    for letter in (variable.name for variable in law.variables if variable.log and variable.name in "NDC"):
        rest = [np.asarray(column) for name, column in values.items() if name != letter]
        correlation, where = _rank_correlation(np.asarray(values[letter]), log_y_N, rest)
        if correlation >= RISES:
            found.append(
                f"loss rises with {letter} (rank correlation {correlation:+.2f}{where}): a falling law does not hold"
            )
    return found


def _rank_correlation(x_N: np.ndarray, y_N: np.ndarray, rest: list[np.ndarray]) -> tuple[float, str]:
    """Concordance of x and y over pairs of rows with equal `rest`; without such, of what `rest` leaves of ranks."""
    some = np.unique(np.linspace(0, len(x_N) - 1, ROWS_PAIRED).astype(int))
    x_N, y_N, rest = x_N[some], y_N[some], [column[some] for column in rest]
    same = np.ones((len(x_N), len(x_N)), dtype=bool)
    for column in rest:
        same &= np.isclose(column[:, None], column[None, :], rtol=1e-9, atol=0.0)
    x_signs, y_signs = (np.sign(column[:, None] - column[None, :]) for column in (x_N, y_N))
    pairs = same & (x_signs != 0)
    if pairs.sum() >= len(x_N):
        return float((x_signs * y_signs)[pairs].mean()), " at equal others" if rest else ""
    ranks = [stats.rankdata(column) for column in (x_N, y_N, *rest)]
    others = np.stack([np.ones(len(x_N)), *ranks[2:]], axis=1)
    left = [rank - others @ np.linalg.lstsq(others, rank)[0] for rank in ranks[:2]]
    size = float(np.linalg.norm(left[0]) * np.linalg.norm(left[1]))
    return (float(left[0] @ left[1]) / size if size > 1e-9 else 0.0), " beside the others" if rest else ""


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
