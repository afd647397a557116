"""Version 3 of the heart: regional sources with lead vectors of their own, activated in sequence, from which T follows.

The interface, from a patient and a state of the heart to kernel rows:

    state, patient = sample_disease(row, flags, patient)  # a flag a morphology; or `healthy()`; `combined`: two
    anatomy = sample_anatomy(row, patient, t_size_mv)      # where this patient's heart lies and what the leads see
    anatomy, patient, state = sample_heart(anatomy_row, disease_row, flags, patient, population)  # both at once
    beat = beat_of(anatomy, patient, state)                # one kind of beat: `Beat`; `ventricular_focus` for others
    kinds = sample_kinds(row, rhythm, anatomy, patient, state)  # the conducted one, and what the rhythm adds
    beat.p, beat.qrs, beat.t                               # `Rows`; they move with the events of `physiology.events`
    rows.centre_s, width_s, skew, flat                     # (R,) each: where and how each kernel lies
    rows.vector_mv, rows.field                             # (R, 3) and (R, 9, 3): weights are their product
    rows.weights_mv                                        # (R, 9): what each kernel adds at each electrode
    beat.fiducials                                         # `kernels.Fiducials`: onset, peak and end of P, QRS and T

Times count from the event of the rows' train: P onset, QRS onset, T peak (at a stretch of 1, as in version 2). A kernel
at a time t from its event is

    k(t) = exp(-z²/2), or exp(-z⁴/2) where `flat`,   z = (t - centre) / (width (1 + skew))  before the centre,
                                                     z = (t - centre) / (width (1 - skew))  after it,

so that a positive skew rises slowly and falls fast, and the area does not depend on it. Whoever changes a beat (with
the breath, from beat to beat) scales `vector_mv`, turns it, or scales `width_s`, row by row or all rows alike; the
electrodes' weights follow. Rows stand in a fixed order, so that a beat of another origin has the same shape, and a
kernel that does not occur has a vector of zero.
"""

from ecg_jax.data.synthetic.sources.anatomy import Anatomy, sample_anatomy
from ecg_jax.data.synthetic.sources.beat import beat_of
from ecg_jax.data.synthetic.sources.diseases import sample_disease
from ecg_jax.data.synthetic.sources.hearts import sample_heart
from ecg_jax.data.synthetic.sources.kinds import Kinds, conducted_alone, sample_kinds
from ecg_jax.data.synthetic.sources.rows import Beat, Rows, kernels_at
from ecg_jax.data.synthetic.sources.state import HeartState, combined, healthy, ventricular_focus

__all__ = [
    "Anatomy",
    "Beat",
    "HeartState",
    "Kinds",
    "Rows",
    "beat_of",
    "combined",
    "conducted_alone",
    "healthy",
    "kernels_at",
    "sample_anatomy",
    "sample_disease",
    "sample_heart",
    "sample_kinds",
    "ventricular_focus",
]
