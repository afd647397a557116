"""Synthetic 12-lead ECG: patient -> rhythm -> shape -> leads -> noise -> record, a pure function of (seed, index)."""

from ecg_jax.data.synthetic.physiology.conditions import PREVALENCE, UNIFORM, ConditionMix, Morphology, Rhythm, only
from ecg_jax.data.synthetic.physiology.patient import ADULT, Patient, Population
from ecg_jax.data.synthetic.render.identity import fingerprint
from ecg_jax.data.synthetic.render.source import SyntheticSource, render
from ecg_jax.data.synthetic.render.tiers import Recipe, Tier, recipe

__all__ = [
    "ADULT",
    "PREVALENCE",
    "UNIFORM",
    "ConditionMix",
    "Morphology",
    "Patient",
    "Population",
    "Recipe",
    "Rhythm",
    "SyntheticSource",
    "Tier",
    "fingerprint",
    "only",
    "recipe",
    "render",
]
