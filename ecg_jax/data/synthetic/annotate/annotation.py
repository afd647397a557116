"""The truth about synthetic records: fiducials, beats, rhythm, diagnoses and latents beside the signal."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from ecg_jax.data.preprocess import band_passed
from ecg_jax.data.synthetic.annotate import criteria
from ecg_jax.data.synthetic.physiology import kernels, morphology, wide_beats
from ecg_jax.data.synthetic.physiology.conditions import SCP_CODES, Condition, Morphology, Rhythm
from ecg_jax.data.synthetic.physiology.sampling import Grid, Heart
from ecg_jax.data.synthetic.render.generator import Draft
from ecg_jax.data.synthetic.render.source import (
    BLOCK_RECORDS,
    all_leads,
    check_request,
    draw_block,
    on_host,
    recorded_hearts,
    render_draft,
    split_indices,
)
from ecg_jax.data.synthetic.render.tiers import Recipe, Signal

#: A pacing spike counts as visible where it stands out of the recording by this much in some lead.
VISIBLE_SPIKE_MV = 0.05


@dataclasses.dataclass(frozen=True)
class Annotated:
    """B records with all that is known of them; K slots for beats. Times in seconds from the record's start."""

    ecg_mv: np.ndarray  # (B, samples, 12) float32, as acquired
    clean_mv: np.ndarray  # (B, samples, 12), before noise and the recorder with its electrode faults
    sample_rate_hz: int
    fiducials_s: np.ndarray  # (B, K, 3, 3): slots x (P, QRS, T) x (onset, peak, offset); NaN: no such wave
    beat: np.ndarray  # (B, K) `rhythm.Beat` of each slot's QRS complex
    rhythm: np.ndarray  # (B,) intended
    morphology: np.ndarray  # (B,) intended
    met: tuple[tuple[Condition, ...], ...]  # criteria met on the clean signal
    scp_codes: tuple[tuple[str, ...], ...]  # of what was intended; NORM where nothing was, and nothing is met
    spikes_visible: np.ndarray  # (B,) bool
    patient: dict[str, np.ndarray]  # latents by name, each (B,)


@jax.jit
def _fiducials(heart: Heart) -> jax.Array:
    """Onset, peak and end of P, QRS and T in every slot, `(B, K, 3, 3)`."""

    def one(heart: Heart) -> jax.Array:
        trains = heart.trains
        narrow = morphology.fiducials(heart.narrow, heart.patient)
        wide = narrow if heart.wide is None else wide_beats.wide_fiducials(heart.wide, heart.patient)
        is_wide = (trains.wide > 0)[:, None]
        p_s = jnp.where((trains.p_gain != 0)[:, None], trains.p_onset_s[:, None] + narrow.p_s, jnp.nan)
        exists = (trains.narrow + trains.wide > 0)[:, None]
        qrs_s = trains.qrs_onset_s[:, None] + jnp.where(is_wide, wide.qrs_s, narrow.qrs_s)
        t_s = trains.t_peak_s[:, None] + trains.t_stretch[:, None] * jnp.where(is_wide, wide.t_s, narrow.t_s)
        return jnp.stack([p_s, jnp.where(exists, qrs_s, jnp.nan), jnp.where(exists, t_s, jnp.nan)], axis=1)

    return jax.vmap(one)(heart)


def annotate(
    seed: int,
    indices: np.ndarray,
    made_by: Recipe,
    sample_rate_hz: int = 500,
    seconds: int = 10,
) -> Annotated:
    """The records at `indices` as `source.render` gives them, with the truth about them.

    Only recipes of wave vectors know their fiducials. Raises ValueError for others, and as `source.render`.
    """
    if made_by.signal is not Signal.VECTORS:
        raise ValueError(f"records of signal {made_by.signal.value!r} come without annotations: take T1a to T1d")
    check_request(made_by, None, sample_rate_hz, seconds, seed)
    grid = Grid(sample_rate_hz, seconds)
    blocks, inverse, rows = split_indices(indices)
    if not blocks:
        raise ValueError("no record is asked for: give at least one index")
    futures = [on_host(_annotate_block, seed, block, made_by, grid) for block in blocks]
    parts = [future.result() for future in futures]
    pick = inverse * BLOCK_RECORDS + rows
    ecg, clean, fiducials, beat, rhythm, shape, latents, spikes = (
        jax.tree.map(lambda *arrays: np.concatenate(arrays)[pick], *column) for column in zip(*parts)
    )
    filtered = band_passed(clean, sample_rate_hz, axis=1)
    met = tuple(
        criteria.met(
            criteria.beats_of(
                filtered[i],
                sample_rate_hz,
                fiducials[i],
                beat[i],
                bool(latents["is_female"][i] >= 0.5),
                float(latents["age_years"][i]),
            ),
            Rhythm(int(rhythm[i])),
        )
        for i in range(len(pick))
    )
    codes = tuple(_scp(Rhythm(int(r)), Morphology(int(m)), found) for r, m, found in zip(rhythm, shape, met))
    return Annotated(
        ecg, clean, sample_rate_hz, fiducials, beat, rhythm, shape, met, codes, spikes > VISIBLE_SPIKE_MV, latents
    )


def _annotate_block(seed: int, block: int, made_by: Recipe, grid: Grid) -> tuple[object, ...]:
    """One block's arrays: ECG, clean ECG, fiducials, beats, rhythm, morphology, latents, height of its spikes."""
    draft = draw_block(seed, block, made_by, grid.seconds)
    acquired, clean = render_draft(draft, made_by, None, grid)
    if made_by.acquisition:
        without_recorder = dataclasses.replace(made_by, noise=None, acquisition=None)
        _, clean = render_draft(dataclasses.replace(draft, settings=None), without_recorder, None, grid)
    heart = draft.hearts
    codes = heart.conditions
    nothing = np.zeros(BLOCK_RECORDS, np.int32)
    rhythm, shape = (nothing, nothing) if codes is None else (codes.rhythm, codes.morphology)
    arrays = (
        all_leads(acquired),
        all_leads(clean),
        _fiducials(heart),
        heart.trains.beat,
        rhythm,
        shape,
        {field.name: getattr(heart.patient, field.name) for field in dataclasses.fields(heart.patient)},
        _spike_heights(draft, grid),
    )
    return jax.tree.map(np.asarray, arrays)


def _spike_heights(draft: Draft, grid: Grid) -> np.ndarray:
    """How high the tallest pacing spike stands in some lead behind the recorder's low-pass, `(B,)` in mV."""
    if draft.hearts.wide is None:
        return np.zeros(BLOCK_RECORDS, np.float32)
    hearts = recorded_hearts(draft, grid=grid)
    spikes = [kernels.ATRIAL_SPIKE, kernels.NARROW_KERNELS + kernels.VENTRICULAR_SPIKE]
    return np.abs(np.asarray(hearts.weights_mv.rest)[:, spikes]).max((1, 2))


def _scp(rhythm: Rhythm, shape: Morphology, found: tuple[Condition, ...]) -> tuple[str, ...]:
    """SCP-ECG statements of what was intended, and NORM where nothing was and nothing is met."""
    codes = SCP_CODES[rhythm] + SCP_CODES[shape]
    return (*codes, "NORM") if criteria.is_normal(rhythm, shape, found) else codes
