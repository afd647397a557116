"""What differs from beat to beat: size and direction of the heart's waves, their widths, PR and QT.

The heart turns and swells with the breath, fills more or less from stroke to stroke, and repolarises never twice alike.
All of it is a few numbers a beat, known before any sample: a renderer multiplies the rows of a beat by them.
"""

from __future__ import annotations

import dataclasses
import math
from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from ecg_jax.data.synthetic.constants import declare
from ecg_jax.data.synthetic.randomness.draws import cut, truncated_normal

#: Draws of a row that `sample_changes` takes, and normal draws a beat.
CHANGE_DRAWS, BEAT_DRAWS = 11, 6


#: A beat of `sources`: three waves (p, qrs, t), each with rows of `vector_mv`, `width_s` and `centre_s`.
_Beat = TypeVar("_Beat")


@dataclasses.dataclass(frozen=True)
class BeatToBeat:
    """Sizes of what changes. SDs are over patients for what follows the breath, over beats for the rest.

    Petrėnas: Petrėnas et al., Physiol Meas 38:2058, 2017: the heart turns by up to ±5° about each axis with the breath,
    and 5 % in size; fetal ECG simulator (Behar et al., Physiol Meas 35:1537, 2014): 0.2, 0.16 and 0.14 rad from peak to
    peak, ±5.7°, ±4.6° and ±4.0°. Brody: Brody, Circ Res 4:731, 1956: a fuller ventricle has larger radial vectors.
    """

    breath_turn_sd_deg: float = 4.0  # each axis; Petrėnas, Behar
    breath_gain_sd: float = 0.04  # Petrėnas: 5 % at most
    breath_p_share: float = 0.7  # of the turn that the atria follow; design
    memory: float = 0.6  # of a stroke's filling from beat to beat; design
    stroke_gain_sd: float = 0.015  # of QRS; design
    stroke_turn_sd_deg: float = 0.7  # design
    filling_gain: float = 0.10  # of QRS, per relative length of the interval before; Brody, its size is design
    t_gain_sd: float = 0.03  # of T, half of it with the stroke; design
    t_turn_sd_deg: float = 1.0  # design
    p_gain_sd: float = 0.04  # design
    width_sd: float = 0.008  # of QRS; design: a millisecond of its duration
    pr_sd_ms: float = 2.0  # design
    qt_sd_ms: float = 2.5  # short-term variability of QT in the healthy is some 3 to 5 ms, with measurement: recalled

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            highest = {"memory": 0.99, "breath_p_share": 2.0}.get(field.name, 0.5)
            highest = 30.0 if field.name.endswith(("_deg", "_ms")) else highest
            if not 0.0 <= value <= highest:
                raise ValueError(f"{field.name} is {value}: it must lie from 0 to {highest}")


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Changes:
    """K beats of one record: factors of sizes, what turns the heart and about which axes, widths, shifts in time.

    A wave turns by the breath times `breath_turn` (the atria by less) and by what is its own times its own turn, so
    that a renderer needs two more sets of weights (`turning_weights`) and no vector for every beat.
    """

    p_gain: jax.Array  # (K,)
    qrs_gain: jax.Array
    t_gain: jax.Array
    breath: jax.Array  # (K,) -1 to 1
    stroke: jax.Array  # (K,) of unit variance, as the next
    repolarisation: jax.Array
    breath_turn: jax.Array  # (3,) rad about X, Y, Z per unit of the breath
    p_breath_turn: jax.Array
    stroke_turn: jax.Array  # of QRS, per unit of the stroke
    t_turn: jax.Array  # per unit of repolarisation
    width: jax.Array  # (K,) factor of QRS widths
    pr_ms: jax.Array  # (K,) added to each beat's PR and QT
    qt_ms: jax.Array


def sample_changes(
    row: jax.Array, noise_Kx6: jax.Array, breath_K: jax.Array, rr_s: jax.Array, sizes: BeatToBeat
) -> Changes:
    """One record's changes from a row of uniform draws (how this patient moves) and normal draws a beat.

    `breath_K` is the breath at each beat, `rr_s` `(K,)` the interval from each beat to the next.
    """
    s, beats = sizes, len(breath_K)
    (z,) = cut(row, (CHANGE_DRAWS,))
    turn, stroke_turn, t_turn, gain, follows = cut(truncated_normal(z), (3,), (3,), (3,), (), ())
    stroke, of_t, of_p, of_width, of_pr, of_qt = noise_Kx6.T
    stroke = jnp.asarray(fading(s.memory, beats)) @ stroke
    # T grows with the stroke in some and shrinks in others, and half of its variance is its own.
    repolarisation = math.sqrt(0.5) * (jnp.where(follows < 0, -1.0, 1.0) * stroke + of_t)
    longer = jnp.concatenate([jnp.ones(1), rr_s[:-1] / rr_s.mean()]) - 1.0
    log_breath = s.breath_gain_sd * gain * breath_K
    breath_turn = math.radians(s.breath_turn_sd_deg) * turn
    return Changes(
        p_gain=jnp.exp(log_breath + s.p_gain_sd * of_p),
        qrs_gain=jnp.exp(log_breath + s.stroke_gain_sd * stroke + s.filling_gain * longer),
        t_gain=jnp.exp(log_breath + s.t_gain_sd * repolarisation),
        breath=breath_K,
        stroke=stroke,
        repolarisation=repolarisation,
        breath_turn=breath_turn,
        p_breath_turn=s.breath_p_share * breath_turn,
        stroke_turn=math.radians(s.stroke_turn_sd_deg) * stroke_turn,
        t_turn=math.radians(s.t_turn_sd_deg) * t_turn,
        width=jnp.exp(s.width_sd * of_width),
        pr_ms=s.pr_sd_ms * of_pr,
        qt_ms=s.qt_sd_ms * of_qt,
    )


def fading(memory: float, beats: int) -> np.ndarray:
    """`(beats, beats)`: white draws to a process of unit variance that keeps `memory` of itself from beat to beat."""
    lag = np.subtract.outer(np.arange(beats), np.arange(beats))
    table = np.where(lag >= 0, float(memory) ** np.maximum(lag, 0), 0.0)
    table[:, 1:] *= math.sqrt(1.0 - memory**2)
    return table.astype(np.float32)


def turned(vectors: jax.Array, turn: jax.Array) -> jax.Array:
    """Turns vectors `(..., 3)` by a rotation vector `(3,)` in rad: Rodrigues' formula, exact, and 0 at 0."""
    square = jnp.maximum((turn**2).sum(), 1e-12)
    angle = jnp.sqrt(square)
    across = jnp.cross(jnp.broadcast_to(turn, vectors.shape), vectors)
    twice = jnp.cross(jnp.broadcast_to(turn, vectors.shape), across)
    return vectors + jnp.sin(angle) / angle * across + (1.0 - jnp.cos(angle)) / square * twice


def turning_weights(field_Rx9x3: jax.Array, vector_mv_Rx3: jax.Array, turn: jax.Array) -> jax.Array:
    """What rows add at the electrodes, `(R, 9)`, per unit of what turns them by `turn` (3,): its first order.

    At 8° the rest is 1 % of a vector.
    """
    moved = jnp.cross(jnp.broadcast_to(turn, vector_mv_Rx3.shape), vector_mv_Rx3)
    return (field_Rx9x3 @ moved[:, :, None])[..., 0]


def changed(beat: _Beat, changes: Changes, k: int | jax.Array) -> _Beat:
    """Beat number `k` of a record: the patient's beat (`sources.Beat`) with its rows scaled, turned and widened.

    QRS rows widen about their event, so that their centres move as well; PR and QT are the trains' (`Changes`).
    """
    of_breath, width = changes.breath[k], changes.width[k]
    waves = {
        "p": (changes.p_gain[k], of_breath * changes.p_breath_turn),
        "qrs": (changes.qrs_gain[k], of_breath * changes.breath_turn + changes.stroke[k] * changes.stroke_turn),
        "t": (changes.t_gain[k], of_breath * changes.breath_turn + changes.repolarisation[k] * changes.t_turn),
    }
    moved = {}
    for name, (gain, turn) in waves.items():
        rows = getattr(beat, name)
        moved[name] = dataclasses.replace(rows, vector_mv=gain * turned(rows.vector_mv, turn))
    qrs = moved["qrs"]
    moved["qrs"] = dataclasses.replace(qrs, width_s=width * qrs.width_s, centre_s=width * qrs.centre_s)
    return dataclasses.replace(beat, **moved)


declare("variability.beats", vars(), "CHANGE_DRAWS BEAT_DRAWS", version=3)
