"""How often each condition is drawn: mixes of rhythms and morphologies."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from ecg_jax.data.synthetic.constants import declare
from ecg_jax.data.synthetic.physiology.conditions import CAN_JOIN, Condition, Morphology, Rhythm, named, names


@dataclasses.dataclass(frozen=True)
class ConditionMix:
    """How often each condition is drawn: weights of `Rhythm` and of `Morphology` in their order.

    A patient's rhythm is drawn first, then a morphology that can join it (the weights of the others go to NORMAL).
    """

    rhythms: tuple[float, ...]
    morphologies: tuple[float, ...]

    def __post_init__(self) -> None:
        for name, weights, kind in (("rhythms", self.rhythms, Rhythm), ("morphologies", self.morphologies, Morphology)):
            if len(weights) != len(kind) or min(weights) < 0 or not 0 < sum(weights) < float("inf"):
                raise ValueError(
                    f"{name} has {len(weights)} weights with sum {sum(weights)}: {len(kind)} weights >= 0 are needed, "
                    f"at least one of them above 0"
                )

    def probabilities(self) -> np.ndarray:
        """The probability of every pair, `(rhythms, morphologies)`, summing to 1."""
        rhythm = np.array(self.rhythms) / sum(self.rhythms)
        morphology = np.array(self.morphologies) / sum(self.morphologies)
        joint = rhythm[:, None] * morphology * CAN_JOIN
        joint[:, Morphology.NORMAL] += rhythm - joint.sum(1)
        return joint

    def edges(self) -> np.ndarray:
        """Where a uniform draw passes from one pair to the next, `(pairs - 1,)` float32."""
        sums = np.cumsum(self.probabilities().reshape(-1))
        return (sums / sums[-1])[:-1].astype(np.float32)


def weights(kind: type[Rhythm] | type[Morphology], given: dict[Condition, float]) -> tuple[float, ...]:
    """Weights in the order of `kind`, 0 where not given."""
    return tuple(float(given.get(member, 0.0)) for member in kind)


def sort_conditions(conditions: Sequence[Condition | str]) -> tuple[list[Rhythm], list[Morphology]]:
    """The rhythms among conditions that are given as they are or by name, sinus rhythm where there is none; and the
    morphologies. Raises ValueError for an empty set, and for an unknown name."""
    if not conditions:
        raise ValueError("an empty set of conditions: name at least one of " + ", ".join(names()))
    known = [named(given) if isinstance(given, str) else given for given in conditions]
    rhythms = [member for member in known if isinstance(member, Rhythm)] or [Rhythm.SINUS]
    return rhythms, [member for member in known if isinstance(member, Morphology)]


def check_shown(rhythms: Sequence[Rhythm], morphologies: Sequence[Morphology]) -> None:
    """Raises ValueError where one of the rhythms cannot be shown with one of the morphologies, naming both."""
    apart = [f"{r.name} with {m.name}" for r in rhythms for m in morphologies if not CAN_JOIN[r, m]]
    if apart:
        raise ValueError(f"no record can show {apart[0]}")


def only(*conditions: Condition | str) -> ConditionMix:
    """A mix of the given conditions in equal parts: rhythms with a normal morphology, morphologies in sinus rhythm;
    given both, every record has one of each. Conditions may be given by name.

    Raises ValueError for an empty set, for an unknown name, and for rhythms and morphologies together that no record
    can show.
    """
    rhythms, morphologies = sort_conditions(conditions)
    morphologies = morphologies or [Morphology.NORMAL]
    check_shown(rhythms, morphologies)
    return ConditionMix(
        weights(Rhythm, dict.fromkeys(rhythms, 1.0)), weights(Morphology, dict.fromkeys(morphologies, 1.0))
    )


UNIFORM = ConditionMix((1.0,) * len(Rhythm), (1.0,) * len(Morphology))
#: Percent of adults whose ECG is taken in primary care. CODE: Ribeiro et al., Nat Commun 11:1760, 2020 (n = 1.7
#: million patients): AV_BLOCK_1 1.6, RBBB 2.7, LBBB 1.7, bradycardia 1.6, fibrillation 1.8, tachycardia 2.2. The others
#: were not found for such a population and are design, in the order of magnitude that textbooks give.
PREVALENCE = ConditionMix(
    weights(
        Rhythm,
        {
            Rhythm.SINUS: 85.0,
            Rhythm.SINUS_BRADYCARDIA: 1.6,
            Rhythm.SINUS_TACHYCARDIA: 2.2,
            Rhythm.SINUS_ARRHYTHMIA: 1.5,
            Rhythm.ATRIAL_FIBRILLATION: 1.8,
            Rhythm.ATRIAL_FLUTTER: 0.2,
            Rhythm.ATRIAL_FLUTTER_VARIABLE: 0.1,
            Rhythm.ATRIAL_PREMATURE: 1.2,
            Rhythm.ATRIAL_COUPLETS: 0.1,
            Rhythm.ATRIAL_RUNS: 0.1,
            Rhythm.ATRIAL_BIGEMINY: 0.1,
            Rhythm.ATRIAL_TRIGEMINY: 0.1,
            Rhythm.VENTRICULAR_PREMATURE: 1.5,
            Rhythm.VENTRICULAR_COUPLETS: 0.1,
            Rhythm.VENTRICULAR_RUNS: 0.05,
            Rhythm.VENTRICULAR_BIGEMINY: 0.2,
            Rhythm.VENTRICULAR_TRIGEMINY: 0.1,
            Rhythm.AV_BLOCK_1: 1.6,
            Rhythm.AV_BLOCK_2_MOBITZ_1: 0.05,
            Rhythm.AV_BLOCK_2_MOBITZ_2: 0.02,
            Rhythm.AV_BLOCK_2_TO_1: 0.03,
            Rhythm.AV_BLOCK_3: 0.05,
            Rhythm.JUNCTIONAL: 0.2,
            Rhythm.PACED_ATRIAL: 0.2,
            Rhythm.PACED_VENTRICULAR: 0.5,
            Rhythm.PACED_DUAL: 0.5,
        },
    ),
    weights(
        Morphology,
        {
            Morphology.NORMAL: 78.0,
            Morphology.RBBB: 2.7,
            Morphology.LBBB: 1.7,
            Morphology.LAFB: 2.0,
            Morphology.LPFB: 0.1,
            Morphology.WPW: 0.15,
            Morphology.STEMI_ANTERIOR: 0.2,
            Morphology.STEMI_INFERIOR: 0.2,
            Morphology.STEMI_LATERAL: 0.1,
            Morphology.ISCHAEMIA: 2.0,
            Morphology.OLD_MI_ANTERIOR: 1.0,
            Morphology.OLD_MI_INFERIOR: 1.2,
            Morphology.OLD_MI_LATERAL: 0.3,
            Morphology.LVH: 3.0,
            Morphology.RVH: 0.3,
            Morphology.LEFT_ATRIAL_ENLARGEMENT: 1.5,
            Morphology.RIGHT_ATRIAL_ENLARGEMENT: 0.3,
            Morphology.LONG_QT: 0.5,
            Morphology.T_INVERSION: 2.5,
            Morphology.EARLY_REPOLARISATION: 1.5,
            Morphology.LOW_VOLTAGE: 0.75,
        },
    ),
)


declare("conditions", vars(), "UNIFORM PREVALENCE")
