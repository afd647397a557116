import pathlib

import numpy as np
import pytest

from ecg_jax.data.synthetic import SyntheticSource, Tier, only, recipe
from ecg_jax.data.synthetic.annotate.stored_pool import store_pool
from ecg_jax.data.synthetic.physiology.conditions import Morphology

MADE_BY = recipe(Tier.CONDITIONS, only(Morphology.LBBB, Morphology.RBBB))


def test_a_pool_is_stored_once_and_is_that_of_its_source(tmp_path: pathlib.Path) -> None:
    source = SyntheticSource(3, MADE_BY, patients=25, records_per_patient=2)
    seen: list[int] = []
    stored = store_pool(source, tmp_path / "pool", progress=lambda done, total: seen.append(done))
    assert np.array_equal(stored.ecg, source.read(np.arange(50))) and seen == [50]
    assert len(np.unique(stored.patient_id)) == 25 and set(stored.fold) == set(range(1, 11))
    for patient in range(25):
        own = np.flatnonzero(stored.patient_id == patient)
        assert len(own) == 2 and len(set(stored.fold[own])) == 1 and len({stored.labels[i] for i in own}) == 1
    assert {label for labels in stored.labels for label in labels} == {"SR", "CLBBB", "CRBBB"}
    again = store_pool(source, tmp_path / "pool", progress=lambda done, total: seen.append(done))
    assert np.array_equal(again.ecg, stored.ecg) and seen == [50], "the second call opened what the first stored"
    with pytest.raises(ValueError, match="seed 4"):
        store_pool(SyntheticSource(4, MADE_BY, patients=25, records_per_patient=2), tmp_path / "pool")
    with pytest.raises(TypeError, match="unbounded"):
        store_pool(SyntheticSource(3, MADE_BY), tmp_path / "other")
    assert not (tmp_path / "other").exists()
