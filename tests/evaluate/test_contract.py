import dataclasses

import jax
import numpy as np
import pandas as pd
import pytest
from support.synthetic_pools import made_up_pool

from ecg_jax import models
from ecg_jax.distributed.mesh import make_mesh
from ecg_jax.evaluate import heldout as held
from ecg_jax.evaluate.contract import COLUMNS, evaluate
from ecg_jax.scaling import ladder


@dataclasses.dataclass(frozen=True)
class Count:
    """Counts a model's weights: an evaluator needs no base class."""

    name: str = "count"
    identity: str = "0"

    def rows(self, model, params):
        total = sum(leaf.size for leaf in jax.tree.leaves(params))
        return pd.DataFrame([("size", "all", "", "weights", total, np.nan, np.nan, 0, 0)], columns=list(COLUMNS))


@pytest.fixture(scope="module")
def model_and_params():
    with jax.set_mesh(make_mesh(jax.devices()[:1])):
        model = models.build(ladder.model_config(10_000))
        return model, model.init(jax.random.key(0))


def test_the_held_out_loss_is_one_evaluator_among_others(model_and_params):
    heldout = held.freeze(made_up_pool(12), 50, masks=2)
    with jax.set_mesh(make_mesh(jax.devices()[:1])):
        table = evaluate([held.HeldOutLoss(heldout), Count()], *model_and_params)
        errors = held.model_errors(*model_and_params, heldout)
    assert table["evaluator"].tolist() == ["held-out loss", "count"]
    assert table["protocol"].tolist() == [heldout.identity, "0"]
    loss = table.iloc[0]
    assert loss["value"] == pytest.approx(held.overall(errors, heldout), abs=1e-12)
    patients = held.per_patient(errors, heldout).groupby("patient_id")["loss"].mean()
    assert loss["high"] - loss["low"] == pytest.approx(2 * 1.96 * patients.std() / len(patients) ** 0.5, rel=1e-3)


def test_an_evaluator_of_other_columns_is_named(model_and_params):
    class Other(Count):
        def rows(self, model, params):
            return super().rows(model, params).drop(columns="n")

    with pytest.raises(ValueError, match="'count' gave columns"):
        evaluate([Other()], *model_and_params)
    assert evaluate([], *model_and_params).empty
