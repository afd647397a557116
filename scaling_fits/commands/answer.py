"""What a command gives back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from scaling_fits.tables.run_table import RunTable


@dataclass(frozen=True)
class Answer:
    """What a command found: `text` for the terminal, `data` for JSON, and notes on the table it read."""

    text: str
    data: dict[str, Any] | list[dict[str, Any]]
    notes: tuple[str, ...] = ()


#: A command first looks at all its options and reads its tables, which is quick, and gives back the work that is left.
Work = Callable[[], Answer]


def table_notes(table: RunTable) -> tuple[str, ...]:
    """What a reader of the table must know, a refusal of laws included."""
    return table.notes if table.law_refusal is None else (*table.notes, table.law_refusal)
