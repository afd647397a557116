"""What differs from beat to beat: size and direction of the heart's waves, their widths, PR and QT.

The heart turns and swells with the breath, fills more or less from stroke to stroke, and repolarises never twice alike.
All of it is a few numbers a beat, known before any sample: a renderer multiplies the rows of a beat by them.
"""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from ecg_jax.data.synthetic.constants import declare
from ecg_jax.data.synthetic.physiology.leads import LEAD_FIELD
from ecg_jax.data.synthetic.randomness.draws import cut, truncated_normal

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

#: Draws of a row that `sample_changes` takes, and normal draws a beat.
CHANGE_DRAWS, BEAT_DRAWS = 5, 6


def _turns() -> np.ndarray:
    """By axis X, Y, Z: the dipole that the electrodes see, turned by 1 rad to the first order, as potentials."""
    dipole = np.linalg.pinv(LEAD_FIELD)
    return np.stack([LEAD_FIELD @ np.cross(axis, dipole.T).T for axis in np.eye(3)]).astype(np.float32)


_TURNS = _turns()
#: A beat of `sources`: three waves (p, qrs, t), each with rows of `vector_mv`, `width_s` and `centre_s`.
_Beat = TypeVar("_Beat", bound="DataclassInstance")


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
    """K beats of one record: factors of sizes, turns about an axis of the patient's, widths, shifts in time.

    All that turns a heart turns it about one axis, so that a renderer needs one matrix
    (`turning`) and no vector for every beat.
    """

    p_gain: jax.Array  # (K,)
    qrs_gain: jax.Array
    t_gain: jax.Array
    axis: jax.Array  # (3,) of length 1
    p_turn: jax.Array  # (K,) rad about it
    qrs_turn: jax.Array
    t_turn: jax.Array
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
    direction, gain, follows = cut(truncated_normal(z), (3,), (), ())
    stroke, of_t, of_p, of_width, of_pr, of_qt = noise_Kx6.T
    stroke = jnp.asarray(fading(s.memory, beats)) @ stroke
    # T grows with the stroke in some and shrinks in others, and half of its variance is its own.
    repolarisation = math.sqrt(0.5) * (jnp.where(follows < 0, -1.0, 1.0) * stroke + of_t)
    longer = jnp.concatenate([jnp.ones(1), rr_s[:-1] / rr_s.mean()]) - 1.0
    log_breath = s.breath_gain_sd * gain * breath_K
    length = jnp.sqrt((direction**2).sum())
    of_breath = math.radians(s.breath_turn_sd_deg) * length * breath_K
    return Changes(
        p_gain=jnp.exp(log_breath + s.p_gain_sd * of_p),
        qrs_gain=jnp.exp(log_breath + s.stroke_gain_sd * stroke + s.filling_gain * longer),
        t_gain=jnp.exp(log_breath + s.t_gain_sd * repolarisation),
        axis=direction / jnp.maximum(length, 1e-6),
        p_turn=s.breath_p_share * of_breath,
        qrs_turn=of_breath + math.radians(s.stroke_turn_sd_deg) * stroke,
        t_turn=of_breath + math.radians(s.t_turn_sd_deg) * repolarisation,
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


def turned(vectors: jax.Array, axis: jax.Array, angle: jax.Array) -> jax.Array:
    """Turns vectors `(..., 3)` about an axis `(3,)` of length 1 by an angle in rad (Rodrigues' formula)."""
    axis = jnp.broadcast_to(axis, vectors.shape)
    across = jnp.cross(axis, vectors)
    return vectors + jnp.sin(angle) * across + (1.0 - jnp.cos(angle)) * jnp.cross(axis, across)


def turning(axis: jax.Array) -> jax.Array:
    """What a turn about an axis `(3,)` adds to the potentials at the electrodes, `(9, 9)` per rad: its first order.

    The electrodes see the heart's dipole turn, as Dower's lead field shows it; what no dipole explains stays. At 8° the
    rest of the turn is 1 % of a vector.
    """
    return jnp.einsum("a,aef->ef", axis, jnp.asarray(_TURNS))


def changed(beat: _Beat, changes: Changes, k: int | jax.Array) -> _Beat:
    """Beat number `k` of a record: the patient's beat (`sources.Beat`) with its rows scaled, turned and widened.

    QRS rows widen about their event, so that their centres move as well; PR and QT are the trains' (`Changes`).
    """
    moved = {}
    for name in ("p", "qrs", "t"):
        rows, gain, turn = getattr(beat, name), getattr(changes, f"{name}_gain")[k], getattr(changes, f"{name}_turn")[k]
        moved[name] = dataclasses.replace(rows, vector_mv=gain * turned(rows.vector_mv, changes.axis, turn))
    qrs, width = moved["qrs"], changes.width[k]
    moved["qrs"] = dataclasses.replace(qrs, width_s=width * qrs.width_s, centre_s=width * qrs.centre_s)
    return dataclasses.replace(beat, **moved)


declare("variability.beats", vars(), "CHANGE_DRAWS BEAT_DRAWS _TURNS", version=3)
