"""From synthetic to real: records of the generator with their statements, to train a probe without one real label.

What a generated record states is what was intended, and NORM where nothing was and no criterion is met; its classes
are those of PTB-XL's table of statements, so that one table tells both.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ecg_jax.data.ecg import PUBLISHED, STORED, RecordPool, Simulated
from ecg_jax.data.synthetic.annotate.annotation import annotate
from ecg_jax.data.synthetic.physiology.condition_mix import ConditionMix, weights
from ecg_jax.data.synthetic.physiology.conditions import Condition, Morphology, Rhythm
from ecg_jax.data.synthetic.render.source import SyntheticSource
from ecg_jax.data.synthetic.render.tiers import Tier, recipe
from ecg_jax.evaluate.labels import Labels, gather

RECORDS, SEED, TIER = 2000, 20_261_201, Tier.ACQUISITION


def _mix() -> ConditionMix:
    """Half of the rhythms sinus, two in five morphologies normal, all others alike."""
    rhythms: dict[Condition, float] = {rhythm: 0.5 / (len(Rhythm) - 1) for rhythm in Rhythm}
    shapes: dict[Condition, float] = {shape: 0.6 / (len(Morphology) - 1) for shape in Morphology}
    rhythms[Rhythm.SINUS], shapes[Morphology.NORMAL] = 0.5, 0.4
    return ConditionMix(weights(Rhythm, rhythms), weights(Morphology, shapes))


def labelled_synthetic(
    task: str, classes_of: Mapping[str, tuple[str, ...]], *, records: int = RECORDS, seed: int = SEED
) -> tuple[RecordPool, Labels]:
    """Synthetic records at 100 Hz and their labels in a task; `classes_of` gives the classes of each SCP code.

    Records without a statement of the task are left out of the labels. Raises ValueError where none has any.
    """
    made_by, indices = recipe(TIER, _mix()), np.arange(records)
    stated = annotate(seed, indices, made_by).scp_codes
    names = [f"{STORED}/{index:06d}" for index in indices]
    found = {
        name: tuple({found for code in codes for found in classes_of.get(code, ())})
        for name, codes in zip(names, stated, strict=True)
    }
    pool = RecordPool(
        source=STORED,
        sample_rate_hz=100,
        ecg=SyntheticSource(seed, made_by).read(indices),
        record_id=np.array(names),
        patient_id=-1 - indices.astype(np.int64),
        fold=np.ones(records, np.int64),
        unit=np.array(["mV"] * records),
        labels=tuple(stated),
        simulated=Simulated(TIER.value, PUBLISHED),
    )
    return pool, gather(f"{STORED} {task}", found)
