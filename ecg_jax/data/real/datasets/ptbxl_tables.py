"""What the tables of PTB-XL say of a recording: its name, its statements and their classes."""

from __future__ import annotations

import ast
import math
from collections.abc import Container, Sequence
from pathlib import Path

from ecg_jax.data.real.formats.tables import read_table

DATABASE = "ptbxl_database.csv"
STATEMENTS = "scp_statements.csv"
Z100_DATABASE = "ptbxl_z100_database.csv"
#: Codes and subclasses written with an underscore in scp_statements.csv and without in the z-scored sample.
UNDERSCORED = {"AVB": "_AVB", "ISC": "ISC_", "NST": "NST_", "NT": "NT_", "STD": "STD_", "STE": "STE_", "TAB": "TAB_"}


def read_statements(path: Path) -> dict[str, tuple[str, ...]]:
    """SCP code -> its diagnostic class and subclass; none for form and rhythm codes."""
    rows = read_table(path, ("", "diagnostic_class", "diagnostic_subclass"))
    return {row[""]: tuple(filter(None, (row["diagnostic_class"], row["diagnostic_subclass"]))) for _, row in rows}


def scp_labels(value: str, statements: dict[str, tuple[str, ...]], where: str) -> tuple[str, ...]:
    """The codes of a row with their classes and subclasses, sorted."""
    codes = scp_codes(value, statements, where)
    return tuple(sorted({label for code in codes for label in (code, *statements[code])}))


def scp_codes(value: str, known: Container[str], where: str) -> tuple[str, ...]:
    """`{'NORM': 100.0, 'SR': 0.0}` -> its codes. The likelihoods are not used.

    Raises ValueError, naming the row by `where`, for what is no such mapping, or a code that is not `known`.
    """
    try:
        codes = ast.literal_eval(value)
    except (ValueError, SyntaxError, MemoryError, RecursionError) as error:
        raise ValueError(f"{where}: scp_codes is {value!r:.80}, not a mapping of SCP codes") from error
    if not isinstance(codes, dict):
        raise ValueError(f"{where}: scp_codes is {value!r:.80}, not a mapping of SCP codes")
    unknown = [code for code in codes if code not in known]
    if unknown:
        raise ValueError(f"{where}: scp_codes holds {unknown}, which {STATEMENTS} does not list")
    return tuple(codes)


def z100_labels(row: dict[str, str], columns: Sequence[str]) -> tuple[str, ...]:
    """The classes in these columns of a row of the z-scored sample's table, sorted."""
    return tuple(sorted({label for column in columns for label in z100_classes(row[column])}))


def z100_classes(cell: str) -> tuple[str, ...]:
    """The classes in a cell of the z-scored sample's table, as `scp_statements.csv` writes them."""
    return tuple(UNDERSCORED.get(label, label) for label in (cell or "").split(";") if label)


def record_name(row: dict[str, str], where: str) -> str:
    """What a row's recording is called here, by its `ecg_id`: "ptbxl/00001". Raises ValueError for no whole number."""
    return f"ptbxl/{whole_number(row, 'ecg_id', where):05d}"


def whole_number(row: dict[str, str], column: str, where: str) -> int:
    """Reads a whole number; published tables write some as 15709.0."""
    try:
        value = float(row[column])
    except (TypeError, ValueError):
        value = math.nan
    if not value.is_integer():
        raise ValueError(f"{where}: {column} is {row[column]!r}, expected a whole number")
    return int(value)
