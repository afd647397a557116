"""Which morphologies one heart may have at once, and mixes of such hearts (version 3).

A heart of version 3 takes a flag for each morphology. `flags_of` sets them, checked against `MAY_JOIN`; a `HeartMix`
draws a rhythm and a group of morphologies for each patient.
"""

from __future__ import annotations

import dataclasses
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np

from ecg_jax.data.synthetic.constants import declare
from ecg_jax.data.synthetic.physiology.condition_mix import PREVALENCE, check_shown, sort_conditions, weights
from ecg_jax.data.synthetic.physiology.conditions import CAN_JOIN, Condition, Morphology, Rhythm

Group = tuple[Morphology, ...]
#: Groups of morphologies that a mix's table has room for, or a multiple of it.
GROUPS_OF_TABLE = 64
_WIDE = (Morphology.RBBB, Morphology.LBBB)
_ACUTE = (Morphology.STEMI_ANTERIOR, Morphology.STEMI_INFERIOR, Morphology.STEMI_LATERAL)

#: Sets of morphologies of which a heart has one at most, each for its reason.
APART: tuple[Group, ...] = (
    (Morphology.RBBB, Morphology.LBBB, Morphology.WPW),  # both bundles blocked conduct nothing; a pathway bypasses them
    (Morphology.LBBB, Morphology.LAFB, Morphology.LPFB, Morphology.WPW),  # of one bundle; both fascicles are the bundle
    # Read on the ST segment and T wave of a narrow complex.
    *((wide, Morphology.ISCHAEMIA, Morphology.EARLY_REPOLARISATION) for wide in _WIDE),
    *((wide, Morphology.T_INVERSION) for wide in _WIDE),
    *((wide, Morphology.LONG_QT) for wide in _WIDE),
    *((wide, hypertrophy) for wide in _WIDE for hypertrophy in (Morphology.LVH, Morphology.RVH)),
    # Elevation excludes depression that is primary; an infarct's T wave is its stage's.
    *((acute, Morphology.ISCHAEMIA, Morphology.EARLY_REPOLARISATION) for acute in _ACUTE),
    *((acute, Morphology.T_INVERSION) for acute in _ACUTE),
    (Morphology.STEMI_ANTERIOR, Morphology.STEMI_INFERIOR),  # of two arteries
    (Morphology.STEMI_ANTERIOR, Morphology.OLD_MI_ANTERIOR),  # one wall, one infarction
    (Morphology.STEMI_INFERIOR, Morphology.OLD_MI_INFERIOR),
    (Morphology.STEMI_LATERAL, Morphology.OLD_MI_LATERAL),
    (Morphology.ISCHAEMIA, Morphology.EARLY_REPOLARISATION, Morphology.T_INVERSION),
    (Morphology.LVH, Morphology.RVH, Morphology.LOW_VOLTAGE),
    (Morphology.LVH, Morphology.T_INVERSION),  # strain is hypertrophy's own
    # A right axis, or a tall R wave in V1, says nothing beside the other.
    (Morphology.RVH, Morphology.LPFB, Morphology.LAFB),
    (Morphology.RVH, Morphology.OLD_MI_LATERAL, Morphology.STEMI_LATERAL),
    (Morphology.LPFB, Morphology.OLD_MI_LATERAL, Morphology.LOW_VOLTAGE),
    (Morphology.LAFB, Morphology.OLD_MI_INFERIOR),  # Q waves in II, III, aVF exclude it
    *((Morphology.LOW_VOLTAGE, wide) for wide in (*_WIDE, Morphology.LAFB)),
    *((Morphology.LOW_VOLTAGE, other) for other in (*_ACUTE, Morphology.EARLY_REPOLARISATION)),
    # The PR interval and the start of the QRS complex are the pathway's.
    *((Morphology.WPW, other) for other in Morphology if other not in (Morphology.NORMAL, Morphology.WPW)),
)


def _may_join() -> np.ndarray:
    table = np.ones((len(Morphology), len(Morphology)), bool)
    for group in APART:
        for first, second in itertools.permutations(group, 2):
            table[first, second] = False
    return table


#: Which two morphologies may be in one heart, `(len(Morphology), len(Morphology))`.
MAY_JOIN = _may_join()


def flags_of(*morphologies: Morphology) -> np.ndarray:
    """The flags `(len(Morphology),)` float32 of a heart that has all of these; none of a normal one.

    Raises ValueError that names two which no heart has at once, and what each of them may join.
    """
    for first, second in itertools.combinations(sorted(set(morphologies)), 2):
        if not MAY_JOIN[first, second]:
            free = [other for other in Morphology if MAY_JOIN[first, other] and other not in (Morphology.NORMAL, first)]
            joins = ", ".join(other.name for other in free)
            raise ValueError(
                f"no heart has {first.name} and {second.name} at once: with {first.name} take one of {joins}"
            )
    flags = np.zeros(len(Morphology), np.float32)
    flags[[shape for shape in morphologies if shape is not Morphology.NORMAL]] = 1.0
    return flags


@dataclasses.dataclass(frozen=True)
class HeartMix:
    """How often each rhythm and each group of morphologies is drawn; `()` is the normal group.

    A patient's rhythm is drawn first, then a group whose every member can join it (the others' weights go to `()`).
    """

    rhythms: tuple[float, ...]  # in the order of `Rhythm`
    groups: tuple[tuple[Group, float], ...]

    def __post_init__(self) -> None:
        """Raises ValueError for weights that are none, and for a group that no heart has."""
        shares = [weight for _, weight in self.groups]
        for name, given, needed in (("rhythms", self.rhythms, len(Rhythm)), ("groups", shares, len(shares))):
            if len(given) != needed or min(given, default=-1.0) < 0 or not 0 < sum(given) < math.inf:
                raise ValueError(f"{name} has {len(given)} weights {given}: {needed} are needed, >= 0 and not all 0")
        for group, _ in self.groups:
            flags_of(*group)

    def probabilities(self) -> np.ndarray:
        """The probability of each rhythm with each group of `all_groups`, `(rhythms, groups)`, summing to 1."""
        rhythm = np.array(self.rhythms) / sum(self.rhythms)
        share = {group: weight for group, weight in self.groups}
        of_group = np.array([share.get(group, 0.0) for group in self.all_groups()]) / sum(share.values())
        fits = np.array([CAN_JOIN[:, list(group)].all(1) for group in self.all_groups()]).T
        joint = rhythm[:, None] * of_group * fits
        joint[:, 0] += rhythm - joint.sum(1)
        return joint

    def all_groups(self) -> list[Group]:
        """The normal group, then the others in their order."""
        return [(), *(group for group, _ in self.groups if group)]

    def table(self) -> MixTable:
        """The mix as arrays, of the same shape for all mixes of up to `GROUPS_OF_TABLE` groups."""
        groups = self.all_groups()
        spare = -len(groups) % GROUPS_OF_TABLE
        sums = np.cumsum(np.pad(self.probabilities(), ((0, 0), (0, spare))).reshape(-1))
        flags = np.pad(np.stack([flags_of(*group) for group in groups]), ((0, spare), (0, 0)))
        return MixTable((sums / sums[-1])[:-1].astype(np.float32), flags)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class MixTable:
    """A `HeartMix` as arrays, so that another mix compiles nothing."""

    edges: np.ndarray | jax.Array  # (rhythms * groups - 1,) where a uniform draw passes from one pair to the next
    flags: np.ndarray | jax.Array  # (groups, len(Morphology))


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class HeartConditions:
    """The conditions of one record (or of a batch: a leading axis)."""

    rhythm: jax.Array  # () int32 code
    flags: jax.Array  # (len(Morphology),) float32


def sample_heart_conditions(pick: jax.Array, table: MixTable) -> HeartConditions:
    """A rhythm and the flags of a group from one uniform draw."""
    rhythm, group = jnp.divmod((pick >= table.edges).sum(), len(table.flags))
    return HeartConditions(rhythm.astype(jnp.int32), table.flags[group])


def together(*conditions: Condition | str) -> HeartMix:
    """A mix of one kind of heart: it has all the morphologies given, in each of the rhythms given in equal parts.

    Raises ValueError for an unknown name, for morphologies that no heart has at once, and for a rhythm that cannot show
    them.
    """
    rhythms, shapes = sort_conditions(conditions)
    flags_of(*shapes)
    return _of(rhythms, [tuple(sorted(set(shapes)))])


def each(*conditions: Condition | str) -> HeartMix:
    """A mix of hearts with one of the morphologies given each, in each of the rhythms given, all in equal parts.

    Raises ValueError as `together`.
    """
    rhythms, shapes = sort_conditions(conditions)
    return _of(rhythms, [(shape,) if shape else () for shape in dict.fromkeys(shapes)] or [()])


def _of(rhythms: list[Rhythm], groups: list[Group]) -> HeartMix:
    check_shown(rhythms, [member for group in groups for member in group])
    groups = [tuple(m for m in group if m) for group in groups]
    return HeartMix(weights(Rhythm, dict.fromkeys(rhythms, 1.0)), tuple((group, 1.0) for group in groups))


#: Of the patients with the first morphology of a group, the share that has the whole group. Design, in the order of
#: magnitude that textbooks give; what a patient has besides is more often the same disease's than chance's.
TOGETHER: dict[Group, float] = {
    (Morphology.RBBB, Morphology.LAFB): 0.15,
    (Morphology.RBBB, Morphology.LPFB): 0.01,
    (Morphology.RBBB, Morphology.OLD_MI_ANTERIOR): 0.03,
    (Morphology.RBBB, Morphology.OLD_MI_INFERIOR): 0.04,
    (Morphology.RBBB, Morphology.STEMI_ANTERIOR): 0.01,
    (Morphology.RBBB, Morphology.LEFT_ATRIAL_ENLARGEMENT): 0.06,
    (Morphology.RBBB, Morphology.RIGHT_ATRIAL_ENLARGEMENT): 0.02,
    (Morphology.LBBB, Morphology.LEFT_ATRIAL_ENLARGEMENT): 0.15,
    (Morphology.LBBB, Morphology.OLD_MI_ANTERIOR): 0.05,
    (Morphology.LBBB, Morphology.STEMI_ANTERIOR): 0.01,
    (Morphology.LAFB, Morphology.OLD_MI_ANTERIOR): 0.06,
    (Morphology.LAFB, Morphology.LVH): 0.08,
    (Morphology.STEMI_ANTERIOR, Morphology.STEMI_LATERAL): 0.25,
    (Morphology.STEMI_INFERIOR, Morphology.STEMI_LATERAL): 0.15,
    (Morphology.STEMI_INFERIOR, Morphology.OLD_MI_ANTERIOR): 0.06,
    (Morphology.OLD_MI_ANTERIOR, Morphology.OLD_MI_LATERAL): 0.15,
    (Morphology.OLD_MI_INFERIOR, Morphology.OLD_MI_LATERAL): 0.15,
    (Morphology.OLD_MI_ANTERIOR, Morphology.OLD_MI_INFERIOR): 0.05,
    (Morphology.OLD_MI_ANTERIOR, Morphology.LONG_QT): 0.04,
    (Morphology.LVH, Morphology.LEFT_ATRIAL_ENLARGEMENT): 0.25,
    (Morphology.LVH, Morphology.LONG_QT): 0.04,
    (Morphology.LVH, Morphology.ISCHAEMIA): 0.06,
    (Morphology.RVH, Morphology.RIGHT_ATRIAL_ENLARGEMENT): 0.30,
    (Morphology.ISCHAEMIA, Morphology.OLD_MI_INFERIOR): 0.08,
    (Morphology.ISCHAEMIA, Morphology.LEFT_ATRIAL_ENLARGEMENT): 0.06,
    (Morphology.T_INVERSION, Morphology.LONG_QT): 0.08,
    (Morphology.T_INVERSION, Morphology.LEFT_ATRIAL_ENLARGEMENT): 0.06,
    (Morphology.LEFT_ATRIAL_ENLARGEMENT, Morphology.RIGHT_ATRIAL_ENLARGEMENT): 0.05,
}


def _prevalence() -> HeartMix:
    """`condition_mix.PREVALENCE`, where each morphology's patients divide among its groups."""
    of_first = {shape: sum(share for group, share in TOGETHER.items() if group[0] is shape) for shape in Morphology}
    single = dict(zip(Morphology, PREVALENCE.morphologies))
    groups: dict[Group, float] = {}
    for shape, weight in single.items():
        groups[(shape,) if shape else ()] = weight * (1.0 - of_first[shape])
    groups |= {group: single[group[0]] * share for group, share in TOGETHER.items()}
    return HeartMix(PREVALENCE.rhythms, tuple(groups.items()))


HEART_PREVALENCE = _prevalence()

declare("composition", vars(), "GROUPS_OF_TABLE _WIDE _ACUTE APART MAY_JOIN TOGETHER HEART_PREVALENCE", version=3)
