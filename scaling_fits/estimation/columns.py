"""What is read from which column of a table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import Enum

import numpy as np

from scaling_fits.laws.law import Law
from scaling_fits.tables.run_table import RunTable, require_columns

#: The columns of this project's run tables behind the letters of the laws.
COLUMNS = {
    "N": "n_params",
    "D": "records_seen",
    "C": "train_flops",
    "R": "real_seen",
    "S": "synthetic_seen",
    "U": "unique_real_records",
    "r": "real_fraction",
}
# Axes that a sound data set either holds constant or states to vary.
AXES = (
    "study",
    "real_fraction",
    "mixing",
    "tier",
    "real_information",
    "unique_real_patients",
    "pool_shuffle",
    "batch_records",
    "learning_rate",
    "weight_decay",
    "sample_rate_hz",
    "patch_ms",
    "mask_ratio",
    "objective",
    "architecture",
    "seed",
)
TRUNK = "trunk_id"


class Link(Enum):
    """Which positive number a law is fitted to: the response itself, or the odds (1 - y) / y of one below 1."""

    LOG = "response"
    LOGIT = "odds of error (1 - y) / y"

    def forward(self, response: np.ndarray) -> np.ndarray:
        """Response to the number that the law describes."""
        return response if self is Link.LOG else (1 - response) / response

    def backward(self, value: np.ndarray) -> np.ndarray:
        """The law's number back to the response."""
        return value if self is Link.LOG else 1 / (1 + value)


@dataclass(frozen=True)
class Columns:
    """What a fit reads from which column of a table.

    `letters` are the columns behind a law's variables ({"N": "params"}); this project's own (`COLUMNS`) stand where
    none is given. `response` is the column of the loss, and `link` which number of it the law describes. `weight` and
    `sd` name columns of row weights and of standard deviations of the residuals, both relative: a constant factor
    changes nothing, as the noise's scale is estimated from the residuals. `cluster` names the column that groups
    dependent rows (None: `trunk_id` where there is one, else every row is its own).
    """

    letters: Mapping[str, str] = field(default_factory=dict)
    response: str = "loss"
    link: Link = Link.LOG
    weight: str | None = None
    sd: str | None = None
    cluster: str | None = None

    @classmethod
    def of(cls, given: Columns | Mapping[str, str] | None) -> Columns:
        """`given` itself; a mapping is short for the columns behind letters, None for this project's own."""
        return given if isinstance(given, Columns) else cls(given or {})

    def known_to(self, law: Law) -> Columns:
        """The same without letters that the law does not have, for several laws on one table."""
        return replace(self, letters={letter: name for letter, name in self.letters.items() if letter in law.letters})

    def behind(self, law: Law) -> dict[str, str]:
        """The column behind each of the law's letters; ValueError for a letter that it does not have, or for a column
        that is the response too."""
        unknown = sorted(set(self.letters) - set(law.letters))
        if unknown:
            raise ValueError(
                f"{law.name} has the variables {sorted(law.letters)}, not {unknown}; check the columns given"
            )
        columns = {letter: {**COLUMNS, **self.letters}.get(letter, letter) for letter in law.letters}
        if self.response in columns.values():
            raise ValueError(
                f"column {self.response!r} is both the loss and a variable of {law.name} ({columns}); name another for "
                "one"
            )
        return columns


def cluster_column(table: RunTable, given: str | None) -> str | None:
    """The column that groups dependent rows: the one given, which must exist, else `trunk_id` where there is one."""
    if given is not None:
        require_columns(table.frame, [given], table.source)
        return given
    return TRUNK if TRUNK in table.frame else None
