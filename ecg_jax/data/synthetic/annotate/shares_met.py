"""How many patients with each morphology meet its definition, measured on their beats without noise."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from ecg_jax.data.synthetic.annotate import criteria
from ecg_jax.data.synthetic.physiology.composition import flags_of
from ecg_jax.data.synthetic.physiology.conditions import Morphology, Rhythm
from ecg_jax.data.synthetic.physiology.patient import Patient
from ecg_jax.data.synthetic.randomness.draws import DRAWS_PER_ROW
from ecg_jax.data.synthetic.sources.hearts import beats
from ecg_jax.data.synthetic.sources.one_beat import one_beat
from ecg_jax.data.synthetic.sources.rows import Beat

SAMPLE_RATE_HZ = 500


def shares_met(patients: int, seed: int) -> dict[Morphology, dict[Morphology, float]]:
    """Of so many patients with each morphology, the share that meets each definition (see `criteria`)."""
    codes = np.repeat(np.arange(len(Morphology)), patients)
    flags = np.stack([flags_of(Morphology(code)) for code in codes.tolist()])
    rows = jax.random.uniform(jax.random.key(seed), (len(codes), 3, DRAWS_PER_ROW))
    unknown = np.full(len(codes), np.nan)
    met = [
        criteria.morphologies_met(beat, Rhythm.SINUS)
        for beat in measured(*beats(rows, jnp.asarray(flags), unknown, unknown))
    ]
    return {
        shape: {
            found: float(np.mean([found in met[i] for i in np.flatnonzero(codes == shape)])) for found in Morphology
        }
        for shape in Morphology
    }


def measured(drawn: Beat, people: Patient) -> list[criteria.Beats]:
    """The beats of B patients as `criteria` takes them, amplitudes above the PR segment."""
    samples = round((criteria.BEFORE_S + criteria.AFTER_S) * SAMPLE_RATE_HZ)
    time_s = np.arange(samples, dtype=np.float32) / SAMPLE_RATE_HZ - criteria.BEFORE_S
    leads_mv = np.asarray(jax.jit(jax.vmap(one_beat, (0, 0, None)))(drawn, people, jnp.asarray(time_s)))
    longest, shortest = criteria.BASELINE_S
    baseline = (time_s >= -longest) & (time_s <= -shortest)
    leads_mv = leads_mv - leads_mv[:, baseline].mean(1, keepdims=True)
    limits = {name: 1e3 * np.asarray(getattr(drawn.fiducials, name)) for name in ("p_s", "qrs_s", "t_s")}
    latents = {
        name: np.asarray(getattr(people, name)) for name in ("pr_ms", "qtcf_ms", "t_peak_to_end_ms", "age_years")
    }
    rr_s, is_female = np.asarray(people.mean_rr_s), np.asarray(people.is_female) > 0.5
    stretch = np.cbrt(rr_s)
    t_event_ms = (latents["qtcf_ms"] - latents["t_peak_to_end_ms"]) * stretch
    return [
        criteria.Beats(
            mv=leads_mv[i],
            sample_rate_hz=SAMPLE_RATE_HZ,
            qrs_ms=float(limits["qrs_s"][i, 2]),
            pr_ms=float(latents["pr_ms"][i] - limits["p_s"][i, 0]),
            p_ms=float(limits["p_s"][i, 2] - limits["p_s"][i, 0]),
            qt_ms=float(t_event_ms[i] + stretch[i] * limits["t_s"][i, 2]),
            t_peak_ms=float(t_event_ms[i] + stretch[i] * limits["t_s"][i, 1]),
            rr_s=rr_s[i : i + 1],
            is_female=bool(is_female[i]),
            age_years=float(latents["age_years"][i]),
        )
        for i in range(len(leads_mv))
    ]
