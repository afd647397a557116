"""Real recordings, read where they lie in their publishers' own layouts.

`fetch`     download a set (command), resumed and checked
`formats`   read files: WFDB, EDF, HDF5, tables; knows of no set
`datasets`  which sets are known (`registry`), what all share (`catalogue`), a module per set, `any_folder` for others
`quality`   judge a set (`report`, command), and find recordings that stand in two (`leakage`)
`build`     prepare a set for training (command)
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
