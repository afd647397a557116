"""Hearts and their conducted beats, drawn from uniform draws."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from ecg_jax.data.synthetic.physiology.patient import ADULT, Patient, Population, sample_patient
from ecg_jax.data.synthetic.sources.anatomy import Anatomy, sample_anatomy
from ecg_jax.data.synthetic.sources.beat import beat_of
from ecg_jax.data.synthetic.sources.diseases import sample_disease
from ecg_jax.data.synthetic.sources.rows import Beat
from ecg_jax.data.synthetic.sources.state import HeartState


def sample_heart(
    anatomy_row: jax.Array, disease_row: jax.Array, flags: jax.Array, patient: Patient, population: Population
) -> tuple[Anatomy, Patient, HeartState]:
    """What `beat_of` makes a beat of: the anatomy of a patient of a population, the patient with the latents that its
    morphologies set, and the state of the heart. Rows as `sample_anatomy` and `sample_disease` take them; `flags`
    `(len(Morphology),)` say which morphologies the heart has, one or several (`composition.flags_of`).
    """
    state, patient = sample_disease(disease_row, flags, patient)
    t_size_mv = population.t_size_mv(patient.age_years, patient.is_female)
    return sample_anatomy(anatomy_row, patient, t_size_mv), patient, state


@jax.jit
def beats(rows: jax.Array, flags: jax.Array, age_years: jax.Array, is_female: jax.Array) -> tuple[Beat, Patient]:
    """Beats of B patients from uniform draws `(B, 3, DRAWS_PER_ROW)` and flags of morphologies `(B, len(Morphology))`;
    age and sex `(B,)`, NaN: the patient's own."""

    def one(row: jax.Array, flags: jax.Array, age: jax.Array, sex: jax.Array) -> tuple[Beat, Patient]:
        patient = sample_patient(row[0], ADULT)
        patient = dataclasses.replace(
            patient,
            age_years=jnp.where(jnp.isnan(age), patient.age_years, age),
            is_female=jnp.where(jnp.isnan(sex), patient.is_female, sex),
        )
        anatomy, patient, state = sample_heart(row[1], row[2], flags, patient, ADULT)
        return beat_of(anatomy, patient, state), patient

    return jax.vmap(one)(rows, flags, age_years, is_female)
