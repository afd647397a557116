"""Tables that count as this project's own export."""

import pandas as pd

from scaling_fits.tables.run_table import EXPORTED

PLAIN = {"study": "s", "response": "r", "loss_mean": 1e9, "pre_transition": False, "diverged": False, "exclusion": ""}


def exported(frame: pd.DataFrame) -> pd.DataFrame:
    """`frame` with the columns that mark an export, those that it lacks saying nothing."""
    names = [f"run{i:04d}" for i in range(len(frame))]
    whole = {"run_id": names, "trunk_id": frame.get("run_id", names), **PLAIN}
    assert set(whole) | {"loss"} == EXPORTED
    return frame.assign(**{name: value for name, value in whole.items() if name not in frame})
