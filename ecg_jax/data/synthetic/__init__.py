"""Synthetic 12-lead ECG: patient -> rhythm -> morphology -> leads -> record, a pure function of (seed, index)."""

from ecg_jax.data.synthetic.patient import ADULT, Patient, Population
from ecg_jax.data.synthetic.source import SyntheticSource, fingerprint, render

__all__ = ["ADULT", "Patient", "Population", "SyntheticSource", "fingerprint", "render"]
