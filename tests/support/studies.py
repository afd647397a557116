"""A study of two runs, and one of packs, on made-up recordings."""

import pandas as pd

from ecg_jax.evaluate import heldout as held
from ecg_jax.evaluate.response import response_of
from ecg_jax.store.layout import Store, open_store
from ecg_jax.store.tables import IDENTITIES, MACHINE_COLUMNS, export
from ecg_jax.study import sweep
from ecg_jax.train.training_data import TrainingData
from support.configs import make_config
from support.run_packs import do
from support.synthetic_pools import made_up_pool

DATA = TrainingData(real=made_up_pool(20, 2), synthetic={"b": made_up_pool(2000, 1)})
RESPONSE = response_of(held.freeze(made_up_pool(9, 5), 50, masks=2), DATA.real)
TARGETS = sweep.grid(make_config(study="s", response=RESPONSE.heldout.identity), {"budget_records": [512, 1024]})


def run(root, targets=TARGETS, size=1) -> Store:
    store = open_store(root, "s", targets, {})
    do(store, targets, DATA, RESPONSE, size=size)
    return store


def tables(store, folder):
    frames = {name: pd.read_csv(path, dtype=IDENTITIES) for name, path in export(store, folder).items()}
    frames["runs"] = frames["runs"].drop(columns=list(MACHINE_COLUMNS))
    return frames


class Killed(BaseException):
    """Stands for the end of the process."""


PACKED = sweep.grid(
    make_config(study="s", response=RESPONSE.heldout.identity, **{"data.synthetic_records": 2000}),
    {"seed": [0, 1, 2], "budget_records": [512, 1024]},
)
