"""Variability of version 3: the breath, the sinus node over ten seconds, and what differs from beat to beat."""

from ecg_jax.data.synthetic.variability.beats import BeatToBeat, Changes, changed, sample_changes, turning
from ecg_jax.data.synthetic.variability.breath import Breath, Breathing, sample_breath
from ecg_jax.data.synthetic.variability.heart_rate import TenSeconds, sample_rhythm, sample_spread, scaled_spread

__all__ = [
    "BeatToBeat",
    "Breath",
    "Breathing",
    "Changes",
    "TenSeconds",
    "changed",
    "sample_breath",
    "sample_changes",
    "sample_rhythm",
    "sample_spread",
    "scaled_spread",
    "turning",
]
