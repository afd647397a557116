"""Rendering beats that change: where nothing changes it is version 2's rendering, and what changes is what is drawn."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ecg_jax.data.synthetic.physiology import morphology
from ecg_jax.data.synthetic.physiology.atrial import HARMONICS
from ecg_jax.data.synthetic.physiology.events import sinus_events
from ecg_jax.data.synthetic.physiology.kernels import QRS, P, T
from ecg_jax.data.synthetic.physiology.leads import ELECTRODES_TO_LEADS, LEAD_FIELD
from ecg_jax.data.synthetic.physiology.patient import ADULT, sample_patient
from ecg_jax.data.synthetic.physiology.rhythm import SinusBeats, assemble, no_waves, rr_process
from ecg_jax.data.synthetic.physiology.sampling import Grid, Heart, kernel_bank, timeline
from ecg_jax.data.synthetic.render.changing_beats import BeatTrain, banks_of, fiducials_s, leads_of, smoothed, train_of
from ecg_jax.data.synthetic.sources import Beat, Kinds, Rows
from ecg_jax.data.synthetic.variability import BeatToBeat, changed, sample_changes
from ecg_jax.data.synthetic.variability.beats import BEAT_DRAWS, CHANGE_DRAWS

GRID, BEATS = Grid(250, 10), 30
NOTHING = BeatToBeat(**{field.name: 0.0 for field in dataclasses.fields(BeatToBeat)})
LARGE = BeatToBeat(
    breath_turn_sd_deg=4.0, stroke_gain_sd=0.05, t_gain_sd=0.1, width_sd=0.05, pr_sd_ms=8.0, qt_sd_ms=10.0
)


@functools.cache
def a_heart(seed: int = 0):
    """A patient of version 2, its beat as rows, and its sinus rhythm."""
    rng = np.random.default_rng(seed)
    rows = [jnp.asarray(rng.random(128), jnp.float32) for _ in range(3)]

    @jax.jit  # at once, and not operation by operation
    def draw(of_patient, of_waves, of_rhythm):
        patient = sample_patient(of_patient, ADULT)
        waves = morphology.sample_waves(of_waves, patient, ADULT)
        return patient, waves, morphology.fiducials(waves, patient), rr_process(of_rhythm, patient, BEATS)

    patient, waves, fiducials, node = draw(*rows)

    def part(kernels: slice) -> Rows:
        centre_s = waves.centre_s[kernels]
        flat = (jnp.arange(16)[kernels] == T.start).astype(jnp.float32)
        field = jnp.broadcast_to(patient.body_gain * jnp.asarray(LEAD_FIELD), (len(centre_s), 9, 3))
        return Rows(centre_s, waves.width_s[kernels], jnp.zeros_like(centre_s), flat, waves.vector_mv[kernels], field)

    beat = Beat(part(P), part(QRS), part(T), fiducials)
    return patient, waves, beat, SinusBeats(node.onset_s, node.rr_s, node.remembered_rr_s)


def changes_of(sizes: BeatToBeat, rhythm: SinusBeats):
    rng = np.random.default_rng(1)
    breath = jnp.sin(2 * jnp.pi * 0.25 * rhythm.onset_s)
    noise = rng.standard_normal((BEATS, BEAT_DRAWS)).astype(np.float32)
    sample = jax.jit(functools.partial(sample_changes, sizes=sizes))
    return sample(jnp.asarray(rng.random(CHANGE_DRAWS), jnp.float32), noise, breath, rhythm.rr_s)


def kinds_of(beat: Beat) -> Kinds:
    """A heart with one kind of beat."""
    return Kinds(jax.tree.map(lambda leaf: leaf[None], beat), jnp.zeros((2 * HARMONICS, 9)))


@functools.partial(jax.jit, static_argnames="grid")
def leads_in(beat, train, changes, grid: Grid, low_pass_s=0.0):
    kinds = smoothed(kinds_of(beat), low_pass_s, grid.sample_rate_hz)
    return leads_of(kinds, changes, banks_of(kinds, train, changes, grid), jnp.asarray(ELECTRODES_TO_LEADS))


@functools.cache
def rendered(sizes: BeatToBeat, grid: Grid = GRID, low_pass_s: float = 0.0):
    patient, _, beat, rhythm = a_heart()
    changes = changes_of(sizes, rhythm)
    train = train_of(sinus_events(rhythm, patient), changes, patient, grid.seconds)
    return np.asarray(leads_in(beat, train, changes, grid, low_pass_s)), train, changes, beat


def test_beats_that_do_not_change_are_rendered_as_version_2_does():
    patient, waves, _, _ = a_heart()
    leads, train, _, _ = rendered(NOTHING)
    trains = assemble(
        patient, train.p_onset_s, train.present, train.qrs_onset_s, jnp.zeros(BEATS), jnp.ones(BEATS, int),
        train.t_stretch, no_waves(), jnp.float32(0.0), GRID.seconds,
    )  # fmt: skip
    heart = Heart(patient, None, trains, waves, None, None)
    bank = kernel_bank(heart, timeline(heart, GRID), GRID)
    weights = waves.vector_mv @ (patient.body_gain * jnp.asarray(LEAD_FIELD)).T @ jnp.asarray(ELECTRODES_TO_LEADS).T
    np.testing.assert_allclose(leads, np.asarray(weights.T @ bank), atol=5e-4)
    assert np.ptp(leads[1]) > 0.3


def test_each_beat_is_the_patients_beat_as_it_is_changed():
    leads, train, changes, beat = rendered(LARGE)
    time_s = np.asarray(GRID.time_s())
    one = {field.name: getattr(train, field.name) for field in dataclasses.fields(BeatTrain)}
    still = changes_of(NOTHING, a_heart()[3])
    sizes = []
    for k in (4, 6, 8):
        here = jnp.arange(BEATS) == k
        only = BeatTrain(**one | {"beat": jnp.where(here, train.beat, 0), "p_gain": train.p_gain * here})
        # The vectors of this beat turned exactly, in a heart that does not change otherwise.
        exact = np.asarray(leads_in(changed(beat, changes, k), only, still, GRID))
        onset_s, end_s = float(train.qrs_onset_s[k]), float(train.t_peak_s[k])
        inside = (time_s > onset_s - 0.02) & (time_s < end_s)
        difference = np.abs(leads[:, inside] - exact[:, inside]).max()
        assert difference < 0.03 * np.abs(exact[:, inside]).max(), k  # turns to their first order
        sizes.append(np.ptp(exact[1, inside]))
    assert np.std(sizes) / np.mean(sizes) > 0.01


def test_fiducials_follow_the_beats_and_their_changes():
    _, train, changes, beat = rendered(LARGE)
    found = np.asarray(fiducials_s(kinds_of(beat), train, changes))
    present = np.asarray(train.present) > 0
    assert np.isnan(found[~present]).all() and np.isfinite(found[present]).all() and (~present).any()
    ordered = found[present]
    assert np.all(np.diff(ordered, axis=2) > 0)
    pr_ms = 1e3 * (np.asarray(train.qrs_onset_s) - np.asarray(train.p_onset_s))[present]
    assert np.std(pr_ms) == pytest.approx(LARGE.pr_sd_ms, rel=0.5) and np.std(pr_ms) > 3
    qrs_ms = 1e3 * np.ptp(ordered[:, 1], axis=1)
    assert np.std(qrs_ms) / qrs_ms.mean() == pytest.approx(LARGE.width_sd, rel=0.5)


def test_a_record_is_the_same_function_of_time_at_every_rate_and_softer_behind_a_low_pass():
    fine, coarse = rendered(LARGE, Grid(500, 10))[0], rendered(LARGE)[0]
    np.testing.assert_allclose(fine[:, ::2], coarse, atol=2e-3)
    soft = rendered(LARGE, GRID, 0.008)[0]
    assert np.abs(np.diff(soft)).max() < 0.9 * np.abs(np.diff(coarse)).max()
