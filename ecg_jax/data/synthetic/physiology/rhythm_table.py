"""What each rhythm of `conditions.Rhythm` is, as data: what sets the time of its beats, and what they are."""

from __future__ import annotations

import dataclasses
import enum

import jax
import jax.numpy as jnp
import numpy as np

from ecg_jax.data.synthetic.constants import declare
from ecg_jax.data.synthetic.physiology.conditions import Rhythm
from ecg_jax.data.synthetic.physiology.rhythm import Beat
from ecg_jax.data.synthetic.randomness.draws import cut

Range = tuple[float, float]


class Pacemaker(enum.IntEnum):
    """What sets the time of the QRS complexes."""

    NODE = 0  # each beat of the sinus node (or a device, or the junction, at the patient's rate)
    BLOCKED_NODE = 1  # beats of the sinus node, conducted late or not at all
    ECTOPIC = 2  # the sinus node, between premature beats
    FIBRILLATION = 3
    FLUTTER = 4
    ESCAPE = 5  # a focus below a complete block


@dataclasses.dataclass(frozen=True)
class Course:
    """How a rhythm runs; ranges of counts hold both ends."""

    pacemaker: Pacemaker = Pacemaker.NODE
    beat: Beat = Beat.NORMAL
    wide: bool = False
    p_gain: float = 1.0
    # Premature beats come in bursts, a few per record or one every `period` beats; then so many periods after the first
    # burst must show, as fit even the slowest heart's record.
    ectopic: Beat = Beat.NONE
    burst_beats: tuple[int, int] = (1, 1)
    bursts: tuple[int, int] = (1, 1)
    period: int = 0
    periods_shown: int = 0
    # AV block of the second degree: the last P wave of each cycle is blocked.
    cycle: tuple[int, int] = (1, 1)


def _ectopic(beat: Beat, **bursts: object) -> Course:
    return Course(Pacemaker.ECTOPIC, ectopic=beat, **bursts)  # type: ignore[arg-type]  # fields of a course by name


#: How often and how long: design, but for the period of bigeminy and trigeminy and that three beats are a run.
_PREMATURE = {"bursts": (1, 3)}
_COUPLETS = {"burst_beats": (2, 2), "bursts": (1, 2)}
_RUNS = {"burst_beats": (3, 6)}
_BIGEMINY = {"period": 2, "periods_shown": 2}
_TRIGEMINY = {"period": 3, "periods_shown": 1}
COURSES: dict[Rhythm, Course] = {
    Rhythm.ATRIAL_FIBRILLATION: Course(Pacemaker.FIBRILLATION, p_gain=0.0),
    Rhythm.ATRIAL_FLUTTER: Course(Pacemaker.FLUTTER, p_gain=0.0),
    Rhythm.ATRIAL_FLUTTER_VARIABLE: Course(Pacemaker.FLUTTER, p_gain=0.0),
    Rhythm.ATRIAL_PREMATURE: _ectopic(Beat.ATRIAL, **_PREMATURE),
    Rhythm.ATRIAL_COUPLETS: _ectopic(Beat.ATRIAL, **_COUPLETS),
    Rhythm.ATRIAL_RUNS: _ectopic(Beat.ATRIAL, **_RUNS),
    Rhythm.ATRIAL_BIGEMINY: _ectopic(Beat.ATRIAL, **_BIGEMINY),
    Rhythm.ATRIAL_TRIGEMINY: _ectopic(Beat.ATRIAL, **_TRIGEMINY),
    Rhythm.VENTRICULAR_PREMATURE: _ectopic(Beat.VENTRICULAR, **_PREMATURE),
    Rhythm.VENTRICULAR_COUPLETS: _ectopic(Beat.VENTRICULAR, **_COUPLETS),
    Rhythm.VENTRICULAR_RUNS: _ectopic(Beat.VENTRICULAR, **_RUNS),
    Rhythm.VENTRICULAR_BIGEMINY: _ectopic(Beat.VENTRICULAR, **_BIGEMINY),
    Rhythm.VENTRICULAR_TRIGEMINY: _ectopic(Beat.VENTRICULAR, **_TRIGEMINY),
    Rhythm.AV_BLOCK_2_MOBITZ_1: Course(Pacemaker.BLOCKED_NODE, cycle=(3, 5)),
    Rhythm.AV_BLOCK_2_MOBITZ_2: Course(Pacemaker.BLOCKED_NODE, cycle=(3, 5)),
    Rhythm.AV_BLOCK_2_TO_1: Course(Pacemaker.BLOCKED_NODE, cycle=(2, 2)),
    Rhythm.AV_BLOCK_3: Course(Pacemaker.ESCAPE, beat=Beat.VENTRICULAR_ESCAPE, wide=True),
    Rhythm.JUNCTIONAL: Course(beat=Beat.JUNCTIONAL, p_gain=-1.0),
    Rhythm.PACED_ATRIAL: Course(beat=Beat.PACED),
    Rhythm.PACED_VENTRICULAR: Course(beat=Beat.PACED, wide=True, p_gain=0.0),
    Rhythm.PACED_DUAL: Course(beat=Beat.PACED, wide=True),
}

#: The courses by name of field, each an array by rhythm code (and end of range).
_COLUMNS = {
    field.name: np.array([getattr(COURSES.get(rhythm, Course()), field.name) for rhythm in Rhythm])
    for field in dataclasses.fields(Course)
}


def course_of(rhythm: jax.Array) -> dict[str, jax.Array]:
    """The fields of the `Course` of a rhythm code: int32, float32 or boolean, ranges with their two ends as an axis."""
    dtypes = {"i": jnp.int32, "f": jnp.float32, "b": jnp.bool_}
    # One lookup for all: a CPU compiles each by itself. Counts and codes are small integers, exact as floats.
    table = np.concatenate([column.reshape(len(Rhythm), -1) for column in _COLUMNS.values()], axis=1)
    pieces = cut(jnp.asarray(table, jnp.float32)[rhythm], *(column.shape[1:] for column in _COLUMNS.values()))
    return {name: piece.astype(dtypes[column.dtype.kind]) for (name, column), piece in zip(_COLUMNS.items(), pieces)}


def between(ends: Range, uniform: jax.Array) -> jax.Array:
    """A number between two ends."""
    return ends[0] + (ends[1] - ends[0]) * uniform


def count(ends: jax.Array | tuple[int | jax.Array, int | jax.Array], uniform: jax.Array) -> jax.Array:
    """An integer from both ends on."""
    return ends[0] + jnp.floor((ends[1] - ends[0] + 1) * uniform)


def choose(weights: dict[int, float], uniform: jax.Array) -> jax.Array:
    """A key of `weights` (ascending), drawn in proportion; as float."""
    edges = np.cumsum(list(weights.values())) / sum(weights.values())
    keys = list(weights)
    chosen = jnp.full_like(uniform, keys[0])
    for edge, last, key in zip(edges, keys, keys[1:]):
        chosen += (key - last) * (uniform >= edge)
    return chosen


declare("course", vars(), "_PREMATURE _COUPLETS _RUNS _BIGEMINY _TRIGEMINY COURSES _COLUMNS")
