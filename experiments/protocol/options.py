"""The options that studies share, each declared once."""

from __future__ import annotations

import argparse
from pathlib import Path

from experiments.protocol.data import data_dir_or_none


def add_data_dir(parser: argparse._ActionsContainer) -> None:
    """`--data-dir`; `ECG_DATA_DIR` says it as well."""
    parser.add_argument("--data-dir", type=Path, help="the folder that holds PTB-XL (default: $ECG_DATA_DIR)")


def add_out(parser: argparse._ActionsContainer, study: str) -> None:
    """`--out`: where a study's runs are kept."""
    parser.add_argument(
        "--out", type=Path, default=Path("out") / study, help="where runs are kept, to go on from (%(default)s)"
    )


def add_results(parser: argparse._ActionsContainer, study: str) -> None:
    """`--results`: what is published of a study."""
    parser.add_argument(
        "--results", type=Path, default=Path("results") / study, help="where tables and figures go (%(default)s)"
    )


def real_data_dir(parser: argparse.ArgumentParser, option: Path | None) -> Path:
    """The folder of a study that has no stand-in; ends the command where neither option nor variable says it."""
    folder = data_dir_or_none(option)
    if folder is None:
        parser.error("real recordings are needed: give --data-dir or set ECG_DATA_DIR")
    return folder
