"""Real recordings, read where they lie in their publishers' own layouts.

Fetch:    `download` (command), `publishers`, `listing`, `transfer`, `archives`
Read:     `families` (which sets are known), `catalogue` (what all readers share), a module per family (`ptbxl`, `ludb`,
          `code15`, `mimic`, `sph`, `medalcare`; `folder` for any other), `windows` for long recordings of few leads;
          below them `recording`, `edf`, `hdf5`, `tables`
Keep:     `build` (command), `shards`, `prepare` (PTB-XL for the studies)
Judge:    `report` (command), `report_figures`, `measures`, `leakage`, `vocabulary`
"""

from __future__ import annotations

import os
from pathlib import Path


def data_dir_from_environment() -> Path:
    """The folder of real recordings that the environment variable ECG_DATA_DIR names.

    Raises FileNotFoundError when the variable is unset or empty, or the folder does not exist.
    """
    value = os.environ.get("ECG_DATA_DIR", "")
    if not value:
        raise FileNotFoundError("ECG_DATA_DIR is not set: let it name the folder that holds ptbxl/")
    if not Path(value).is_dir():
        raise FileNotFoundError(f"ECG_DATA_DIR is {value!r}, which is not a folder: let it name the one holding ptbxl/")
    return Path(value)
