"""Synthetic 12-lead ECG: patient -> rhythm -> shape -> leads -> noise -> record, a pure function of (seed, index)."""

from ecg_jax.data.synthetic.conditions import PREVALENCE, UNIFORM, ConditionMix, Morphology, Rhythm, only
from ecg_jax.data.synthetic.identity import fingerprint
from ecg_jax.data.synthetic.patient import ADULT, Patient, Population
from ecg_jax.data.synthetic.source import SyntheticSource, render
from ecg_jax.data.synthetic.tiers import Recipe, Tier, recipe

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
