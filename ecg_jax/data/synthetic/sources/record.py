"""A record from beats and event trains: every event's rows, summed. The reference for any faster rendering."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from ecg_jax.data.synthetic.constants import declare
from ecg_jax.data.synthetic.physiology.atrial import atrial_phase, harmonics
from ecg_jax.data.synthetic.physiology.conditions import Conditions, Morphology, Rhythm
from ecg_jax.data.synthetic.physiology.leads import ELECTRODES_TO_LEADS
from ecg_jax.data.synthetic.physiology.patient import Patient, Population
from ecg_jax.data.synthetic.physiology.rhythm import WIDE_QRS_MS, Trains
from ecg_jax.data.synthetic.randomness.draws import cut
from ecg_jax.data.synthetic.sources import atria
from ecg_jax.data.synthetic.sources.anatomy import DRAWS as ANATOMY_DRAWS
from ecg_jax.data.synthetic.sources.beat import beat_of, retrograde_p
from ecg_jax.data.synthetic.sources.diseases import DRAWS as DISEASE_DRAWS
from ecg_jax.data.synthetic.sources.hearts import sample_heart
from ecg_jax.data.synthetic.sources.rows import Beat, Rows, kernels_at
from ecg_jax.data.synthetic.sources.state import combined, ventricular_focus
from ecg_jax.data.synthetic.sources.ventricles import Region


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class HeartBeats:
    """All that one heart can show: its conducted beat, one of ventricular origin, P backwards, and f or F waves."""

    conducted: Beat
    ventricular: Beat
    retrograde_p: Rows
    atrial_mv: jax.Array  # (2 * atrial.HARMONICS, 9) weights at the electrodes


#: Where ventricular beats start: outflow tract and apex of the right ventricle, and three walls of the left one.
VENTRICULAR_FOCI = (Region.RV_OUTFLOW, Region.RV_APEX, Region.LATERAL, Region.INFERIOR, Region.POSTERIOR)
#: Uniform draws of `sample_beats`: anatomy, disease, focus, atrial waves.
DRAWS = ANATOMY_DRAWS + DISEASE_DRAWS + 1 + atria.DRAWS


def sample_beats(
    row: jax.Array, patient: Patient, population: Population, conditions: Conditions, is_flutter: jax.Array
) -> tuple[HeartBeats, Patient]:
    """All beats of one patient from a row of at least `DRAWS` uniform draws, and the patient with its latents.

    Paced beats start at the right ventricle's apex, others from one focus of `VENTRICULAR_FOCI`.
    """
    of_anatomy, of_disease, which, of_atria = cut(row, (ANATOMY_DRAWS,), (DISEASE_DRAWS,), (), (atria.DRAWS,))
    flags = jnp.arange(len(Morphology)) == conditions.morphology
    anatomy, patient, state = sample_heart(of_anatomy, of_disease, flags, patient, population)
    foci = jnp.array(VENTRICULAR_FOCI)
    focus = foci[jnp.minimum((which * len(foci)).astype(jnp.int32), len(foci) - 1)]
    is_paced = (conditions.rhythm == Rhythm.PACED_VENTRICULAR) | (conditions.rhythm == Rhythm.PACED_DUAL)
    focus = jnp.where(is_paced, Region.RV_APEX, focus)
    ventricular = beat_of(
        anatomy, patient, dataclasses.replace(combined(state, ventricular_focus(focus)), j_wave_mv=jnp.zeros(()))
    )
    moments, fields = atria.sample_fibrillation(of_atria, is_flutter)
    beats = HeartBeats(
        conducted=beat_of(anatomy, patient, state),
        ventricular=_as_trains_time_it(ventricular, patient),
        retrograde_p=retrograde_p(anatomy, patient, state),
        atrial_mv=anatomy.body_gain * jnp.einsum("agx,aex->ge", moments, fields),
    )
    return beats, patient


def _as_trains_time_it(ventricular: Beat, patient: Patient) -> Beat:
    """The beat with T counted from where `rhythm.assemble` puts a wide beat's T: later by a fixed widening of QRS."""
    later_s = 1e-3 * (WIDE_QRS_MS - patient.qrs_ms)
    t = dataclasses.replace(ventricular.t, centre_s=ventricular.t.centre_s - later_s)
    limits = dataclasses.replace(ventricular.fiducials, t_s=ventricular.fiducials.t_s - later_s)
    return dataclasses.replace(ventricular, t=t, fiducials=limits)


def render_record(beats: HeartBeats, trains: Trains, time_s: jax.Array) -> jax.Array:
    """Leads I, II, V1–V6 in mV at the times `(samples,)` of one record, `(8, samples)`, without noise.

    Costs events × rows × samples; every event counts at every sample, so that no wave is cut off.
    """
    p_gain = trains.p_gain
    electrodes = (
        _train(beats.conducted.p, trains.p_onset_s, jnp.maximum(p_gain, 0.0), time_s)
        + _train(beats.retrograde_p, trains.p_onset_s, jnp.maximum(-p_gain, 0.0), time_s)
        + _train(beats.conducted.qrs, trains.qrs_onset_s, trains.narrow, time_s)
        + _train(beats.ventricular.qrs, trains.qrs_onset_s, trains.wide, time_s)
        + _train(beats.conducted.t, trains.t_peak_s, trains.narrow, time_s, trains.t_stretch)
        + _train(beats.ventricular.t, trains.t_peak_s, trains.wide, time_s, trains.t_stretch)
        + trains.fibrillation.gain * harmonics(*atrial_phase(trains.fibrillation, time_s)).T @ beats.atrial_mv
    )
    return jnp.asarray(ELECTRODES_TO_LEADS) @ electrodes.T


def _train(
    rows: Rows, event_s: jax.Array, gain: jax.Array, time_s: jax.Array, stretch: jax.Array | None = None
) -> jax.Array:
    """One wave at every event of its train `(events,)`, at the nine electrodes: `(samples, 9)`."""
    stretch = jnp.ones_like(event_s) if stretch is None else jnp.maximum(stretch, 0.1)

    def add(total: jax.Array, event: tuple[jax.Array, jax.Array, jax.Array]) -> tuple[jax.Array, None]:
        at_s, gain, stretch = event
        return total + gain * kernels_at(rows, (time_s - at_s) / stretch) @ rows.weights_mv, None

    total, _ = jax.lax.scan(add, jnp.zeros((len(time_s), 9)), (event_s, gain, stretch))
    return total


declare("sources.record", vars(), "VENTRICULAR_FOCI DRAWS", version=3)
