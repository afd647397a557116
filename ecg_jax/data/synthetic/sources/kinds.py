"""The kinds of beat of one heart, each a state of its sources: the conducted one, and the one its rhythm adds to it.

What the rhythm adds comes from a focus in the ventricles (ectopic, escape, paced at the right one's apex) or is
conducted with functional block of the right bundle; its P wave comes from a focus in the atria. Both kinds have rows in
the same order, so that a renderer chooses by event.
"""

from __future__ import annotations

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np

from ecg_jax.data.synthetic.constants import declare
from ecg_jax.data.synthetic.physiology.atrial import HARMONICS
from ecg_jax.data.synthetic.physiology.conditions import FLUTTER, Rhythm
from ecg_jax.data.synthetic.physiology.kernels import Fiducials
from ecg_jax.data.synthetic.physiology.patient import Patient
from ecg_jax.data.synthetic.physiology.rhythm import Beat as BeatCode
from ecg_jax.data.synthetic.physiology.rhythm_table import COURSES, Course
from ecg_jax.data.synthetic.randomness.draws import cut
from ecg_jax.data.synthetic.sources import atria
from ecg_jax.data.synthetic.sources.anatomy import Anatomy
from ecg_jax.data.synthetic.sources.atria import AtrialFocus
from ecg_jax.data.synthetic.sources.beat import p_rows, ventricular_rows
from ecg_jax.data.synthetic.sources.conduction import Fascicle
from ecg_jax.data.synthetic.sources.rows import Beat, Rows
from ecg_jax.data.synthetic.sources.state import HeartState, combined, healthy, ventricular_focus
from ecg_jax.data.synthetic.sources.ventricles import Region

CONDUCTED, OTHER = 0, 1
#: Where ventricular beats start: outflow tract and apex of the right ventricle, and three walls of the left one.
VENTRICULAR_FOCI = (Region.RV_OUTFLOW, Region.RV_APEX, Region.LATERAL, Region.INFERIOR, Region.POSTERIOR)
#: By how much the right bundle is late in a beat with functional block: its ventricle is activated from the left one.
ABERRANT_DELAY_MS = 90.0
#: By how much an early front is slower in muscle that has not wholly recovered.
ABERRANT_TRAVEL = 1.35
#: Where premature atrial beats start.
ATRIAL_FOCI = (AtrialFocus.LEFT_VEINS, AtrialFocus.LOW_RIGHT, AtrialFocus.CRISTA)
#: A pacing spike: 0.5 ms between its points of inflection; 0.5 (bipolar leads) to 8 mV, 10 to 30 ms before its wave.
SPIKE_WIDTH_S, SPIKE_MV, SPIKE_LEAD_S = 0.25e-3, (0.5, 8.0), (0.010, 0.030)
#: The dipole between the electrode's tip and its ring or can, by chamber: from the atrium's appendage, the apex.
ATRIAL_SPIKE, VENTRICULAR_SPIKE = (0.35, 0.75, -0.20), (-0.45, -0.70, 0.25)
#: The last row of P and of QRS is the spike.
SPIKE_ROW = -1
#: Uniform draws of `sample_kinds`: ventricular and atrial focus, a spike in each chamber, f and F waves.
DRAWS = 2 + 2 * 3 + atria.DRAWS


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Kinds:
    """What one heart can show: kinds of beat, and f or F waves."""

    beats: Beat  # every leaf with a leading axis of kinds: `CONDUCTED` and, where the rhythm may add one, `OTHER`
    atrial_mv: jax.Array  # (2 * atrial.HARMONICS, 9) weights at the electrodes


#: By rhythm: do beats of ventricular origin occur, and is one of them (or the P wave) a device's?
_VENTRICULAR = np.array(
    [COURSES.get(r, Course()).ectopic == BeatCode.VENTRICULAR or COURSES.get(r, Course()).wide for r in Rhythm]
)
_PACED_VENTRICLE = np.array([r in (Rhythm.PACED_VENTRICULAR, Rhythm.PACED_DUAL) for r in Rhythm])
_PACED_ATRIUM = np.array([r in (Rhythm.PACED_ATRIAL, Rhythm.PACED_DUAL) for r in Rhythm])
_ATRIAL_ECTOPIC = np.array([COURSES.get(r, Course()).ectopic == BeatCode.ATRIAL for r in Rhythm])
_FLUTTER = np.array([r in FLUTTER for r in Rhythm])


def conducted_alone(anatomy: Anatomy, patient: Patient, state: HeartState) -> Kinds:
    """The kinds of a heart whose every beat is conducted from the sinus node."""
    p, p_s = p_rows(anatomy, patient, state)
    qrs, t, qrs_s, t_s = ventricular_rows(anatomy, patient, state)
    beat = Beat(p, qrs, t, Fiducials(p_s, qrs_s, t_s))
    return Kinds(jax.tree.map(lambda leaf: leaf[None], beat), jnp.zeros((2 * HARMONICS, 9)))


def sample_kinds(row: jax.Array, rhythm: jax.Array, anatomy: Anatomy, patient: Patient, state: HeartState) -> Kinds:
    """Both kinds of beat of a heart in the rhythm of that code, from a row of at least `DRAWS` uniform draws."""
    which, which_atrial, atrial_spike, ventricular_spike, of_atria = cut(row, (), (), (3,), (3,), (atria.DRAWS,))
    paced_p, paced_qrs = jnp.asarray(_PACED_ATRIUM)[rhythm], jnp.asarray(_PACED_VENTRICLE)[rhythm]
    focus = jnp.where(paced_qrs, int(Region.RV_APEX), _one_of(VENTRICULAR_FOCI, which))
    is_ventricular = jnp.asarray(_VENTRICULAR)[rhythm]
    other = jax.tree.map(
        lambda a, b: jnp.where(is_ventricular, a, b),
        dataclasses.replace(combined(state, ventricular_focus(focus)), j_wave_mv=jnp.zeros(())),
        combined(state, _functional_block()),
    )
    states = jax.tree.map(lambda *both: jnp.stack(both), state, other)
    qrs, t, qrs_s, t_s = jax.vmap(ventricular_rows, (None, None, 0))(anatomy, patient, states)

    ectopic = jnp.where(jnp.asarray(_ATRIAL_ECTOPIC)[rhythm], _one_of(ATRIAL_FOCI, which_atrial), AtrialFocus.AV_NODE)
    atrial_focus = jnp.where(paced_p, int(AtrialFocus.RIGHT_APPENDAGE), ectopic)
    both_p = p_rows(anatomy, patient, state), p_rows(anatomy, patient, state, atria.route_from(atrial_focus))
    p, p_s = jax.tree.map(lambda *both: jnp.stack(both), *both_p)
    p = _with_spike(p, _spike(atrial_spike, ATRIAL_SPIKE) * paced_p, atrial_spike[1], anatomy.atrial_field[1])
    spike_mv = _spike(ventricular_spike, VENTRICULAR_SPIKE) * paced_qrs
    qrs = _with_spike(qrs, spike_mv, ventricular_spike[1], anatomy.field[Region.RV_APEX])
    moments = atria.sample_fibrillation(of_atria, jnp.asarray(_FLUTTER)[rhythm])
    fields = anatomy.atrial_field[np.array(atria.WAVE_REGIONS)]
    atrial_mv = anatomy.body_gain * jnp.einsum("agx,aex->ge", moments, fields)
    return Kinds(Beat(p, qrs, t, Fiducials(p_s, qrs_s, t_s)), atrial_mv)


def _one_of(foci: tuple[Region, ...] | tuple[AtrialFocus, ...], uniform: jax.Array) -> jax.Array:
    return jnp.array([int(focus) for focus in foci])[
        jnp.minimum((uniform * len(foci)).astype(jnp.int32), len(foci) - 1)
    ]


def _functional_block() -> HeartState:
    state = healthy()
    late = jnp.where(jnp.arange(len(Fascicle)) == Fascicle.RIGHT, ABERRANT_DELAY_MS, 0.0)
    slow = dataclasses.replace(state.conduction, delay_ms=late, travel=ABERRANT_TRAVEL)
    return dataclasses.replace(state, conduction=slow)


def _spike(draws_3: jax.Array, direction: tuple[float, float, float]) -> jax.Array:
    """The vector (mV, 3) of a pacing spike."""
    size_mv = SPIKE_MV[0] * (SPIKE_MV[1] / SPIKE_MV[0]) ** draws_3[0]
    unit = np.array(direction, np.float32) / math.hypot(*direction)
    return jnp.where(draws_3[2] < 0.5, -1.0, 1.0) * size_mv * unit


def _with_spike(rows: Rows, vector_mv: jax.Array, lead: jax.Array, field: jax.Array) -> Rows:
    """Rows of two kinds `(2, R)` with one more at the end: a spike of the other kind, before its wave."""
    shortest, longest = SPIKE_LEAD_S
    of_both = jnp.arange(2)[:, None] == OTHER
    spike = Rows(
        centre_s=jnp.full((2, 1), -(shortest + (longest - shortest) * lead)),
        width_s=jnp.full((2, 1), SPIKE_WIDTH_S),
        skew=jnp.zeros((2, 1)),
        flat=jnp.zeros((2, 1)),
        vector_mv=(of_both * vector_mv)[:, None],
        field=jnp.broadcast_to(field, (2, 1, *field.shape)),
    )
    return jax.tree.map(lambda *parts: jnp.concatenate(parts, axis=1), rows, spike)


declare(
    "sources.kinds",
    vars(),
    "CONDUCTED OTHER VENTRICULAR_FOCI ABERRANT_DELAY_MS ABERRANT_TRAVEL ATRIAL_FOCI SPIKE_WIDTH_S "
    "SPIKE_MV SPIKE_LEAD_S ATRIAL_SPIKE VENTRICULAR_SPIKE SPIKE_ROW DRAWS _VENTRICULAR "
    "_PACED_VENTRICLE _PACED_ATRIUM _ATRIAL_ECTOPIC _FLUTTER",
    version=3,
)
