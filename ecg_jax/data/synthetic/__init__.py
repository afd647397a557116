"""Synthetic 12-lead ECG: patient -> rhythm -> shape -> leads -> noise -> record, a pure function of (seed, index)."""

from ecg_jax.data.synthetic.physiology.condition_mix import PREVALENCE, UNIFORM, ConditionMix, only
from ecg_jax.data.synthetic.physiology.conditions import Morphology, Rhythm
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
