"""The generator as functions that trace: keys -> what is drawn -> clean leads and noise -> leads as acquired.

All take and return batches and hold on any device. On a CPU each is compiled by itself (`source`): fused into one
program, XLA computes shared parts several times over. Inside a training step `synthesise` is the whole of it.
"""

from __future__ import annotations

import dataclasses
import functools

import jax
import jax.numpy as jnp

from ecg_jax.data.synthetic.constants import declare
from ecg_jax.data.synthetic.fitted.priors import Priors, ii_to_i, render_fitted
from ecg_jax.data.synthetic.fitted.surrogate import Spectrum, render_surrogate
from ecg_jax.data.synthetic.physiology import conditions as ailments
from ecg_jax.data.synthetic.physiology.arrhythmia import FASTEST_BPM, sample_trains
from ecg_jax.data.synthetic.physiology.atrial import DRAWS as ATRIAL_DRAWS
from ecg_jax.data.synthetic.physiology.atrial import sample_atrial_vectors
from ecg_jax.data.synthetic.physiology.leads import ELECTRODES_TO_LEADS, sample_weights, twelve_leads
from ecg_jax.data.synthetic.physiology.morphology import sample_waves
from ecg_jax.data.synthetic.physiology.patient import sample_patient
from ecg_jax.data.synthetic.physiology.rhythm import beat_slots, sinus_trains
from ecg_jax.data.synthetic.physiology.sampling import Grid, Heart, Timeline, kernel_bank, project, timeline
from ecg_jax.data.synthetic.physiology.wide_beats import sample_wide
from ecg_jax.data.synthetic.randomness.draws import Stage, draw_rows
from ecg_jax.data.synthetic.recorder import acquisition as recorder
from ecg_jax.data.synthetic.recorder.acquisition import Settings
from ecg_jax.data.synthetic.recorder.noise import sample_noise, white_noise
from ecg_jax.data.synthetic.render.ecgsyn import render_ecgsyn
from ecg_jax.data.synthetic.render.tiers import Recipe, Signal

#: What tiers T−1 and T2 have from a real pool.
Fitted = Spectrum | Priors

_VECTORS = (Stage.PATIENT, Stage.RHYTHM, Stage.MORPHOLOGY, Stage.LEADS, Stage.RESIDUAL)
_STAGES = {
    Signal.SURROGATE: (),
    Signal.FITTED: (Stage.PATIENT, Stage.BEATS),
    Signal.ECGSYN: (Stage.PATIENT, Stage.RHYTHM),
    Signal.VECTORS: _VECTORS,
}


#: Kernels narrower than this are pacing spikes; they are averaged over a Gaussian of so many samples.
NARROWEST_WAVE_S = 0.6e-3
SPIKE_SMOOTHING_SAMPLES = 0.4


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Draft:
    """All that is drawn for a batch of records; `heart` and `settings` are None where the recipe has none."""

    heart: Heart | None
    settings: Settings | None
    rows: dict[Stage, jax.Array]
    words: jax.Array  # (B, 2) uint32

    @property
    def hearts(self) -> Heart:
        """The hearts of a recipe that draws them. Raises ValueError for another."""
        if self.heart is None:
            raise ValueError("these records were not made of hearts: their recipe draws none")
        return self.heart


def _stages(recipe: Recipe) -> tuple[Stage, ...]:
    """The stages that a recipe draws."""
    stages = _STAGES[recipe.signal]
    if recipe.conditions:
        stages += (Stage.CONDITIONS, Stage.BEATS, Stage.WIDE)
    if recipe.acquisition:
        stages += (Stage.ACQUISITION,)
    return stages + ((Stage.NOISE,) if recipe.noise else ())


def draw(
    patient_keys: jax.Array, record_keys: jax.Array, edges: jax.Array | None, recipe: Recipe, seconds: int
) -> Draft:
    """Draws patients from `patient_keys` and recordings from `record_keys`, both `(B,)` (see `draws.OF_RECORD`).

    `edges` are those of the recipe's `ConditionMix`, None where it has none.
    """
    rows, words = draw_rows(patient_keys, record_keys, _stages(recipe))
    heart = settings = None
    if recipe.signal in (Signal.VECTORS, Signal.ECGSYN):
        heart = jax.vmap(functools.partial(_draw_heart, edges=edges, recipe=recipe, seconds=seconds))(rows)
    if recipe.acquisition:
        sample = functools.partial(recorder.sample_acquisition, acquisition=recipe.acquisition)
        settings = jax.vmap(sample)(rows[Stage.ACQUISITION])
    return Draft(heart, settings, rows, words)


def _draw_heart(rows: dict[Stage, jax.Array], edges: jax.Array | None, recipe: Recipe, seconds: int) -> Heart:
    """One record's heart from its rows of uniform draws, with weights at the nine electrodes."""
    patient, conditions, wide = sample_patient(rows[Stage.PATIENT], recipe.population), None, None
    fastest_bpm = recipe.population.heart_rate_max_bpm
    if recipe.conditions:
        if edges is None:
            raise ValueError("a recipe of conditions needs the edges of its mix (ConditionMix.edges)")
        conditions = ailments.sample_conditions(rows[Stage.CONDITIONS], edges)
        patient = ailments.afflicted(rows[Stage.CONDITIONS], patient, conditions)
        fastest_bpm = max(fastest_bpm, FASTEST_BPM)
    if recipe.signal is Signal.ECGSYN:
        seconds += 2  # ECGSYN's beats stretch with the interval that follows: the one after the last must be there
    beats, of_rhythm = beat_slots(fastest_bpm, seconds), rows[Stage.RHYTHM]
    if conditions is None:
        trains = sinus_trains(of_rhythm, patient, beats, seconds)
    else:
        trains = sample_trains(of_rhythm, rows[Stage.BEATS], patient, conditions.rhythm, beats, seconds)
    if recipe.signal is Signal.ECGSYN:
        return Heart(patient, None, trains, None, None, None)  # type: ignore[arg-type]  # its waves are ECGSYN's own
    narrow = sample_waves(rows[Stage.MORPHOLOGY], patient, recipe.population, conditions)
    vectors_mv = [narrow.vector_mv]
    if conditions is not None:
        wide = sample_wide(rows[Stage.WIDE], patient, conditions)
        atrial_mv = sample_atrial_vectors(rows[Stage.WIDE][-ATRIAL_DRAWS:], trains.fibrillation.is_flutter)
        vectors_mv += [wide.vector_mv, atrial_mv]
    weights_mv = sample_weights(
        rows[Stage.LEADS],
        rows[Stage.RESIDUAL],
        jnp.concatenate(vectors_mv),
        patient.body_gain,
        recipe.population,
        recipe.anatomy,
        recipe.residual,
        recipe.breathing,
    )
    return Heart(patient, conditions, trains, narrow, wide, weights_mv)


def recorded_hearts(draft: Draft, grid: Grid) -> Heart:
    """The hearts of a draft with the weights of the leads, behind the recorder's electrodes and low-pass."""
    return jax.vmap(functools.partial(_recorded_heart, grid=grid))(draft.hearts, draft.settings)


def timelines(hearts: Heart, grid: Grid) -> Timeline:
    """Which events are in force when, in every record."""
    return jax.vmap(functools.partial(timeline, grid=grid))(hearts)


def kernel_banks(hearts: Heart, lines: Timeline, grid: Grid) -> jax.Array:
    """Every kernel at every sample, `(B, kernels, grid.samples)`."""
    return jax.vmap(functools.partial(kernel_bank, grid=grid))(hearts, lines)


def project_hearts(banks: jax.Array, hearts: Heart, lines: Timeline, recipe: Recipe) -> jax.Array:
    """The hearts' leads I, II, V1–V6, `(B, 8, grid.samples)` in mV."""
    with jax.default_matmul_precision("highest"):  # accelerators multiply in fewer digits otherwise
        return jax.vmap(functools.partial(project, breathing=recipe.breathing > 0))(banks, hearts, lines)


def other_leads(draft: Draft, recipe: Recipe, fitted: Fitted | None, grid: Grid) -> jax.Array:
    """The leads I, II, V1–V6 of a recipe that has no wave vectors, `(B, 8, grid.samples)`.

    Those fitted to a pool come in standard deviations of lead I for I and II, of their own for V1–V6, so that the other
    four can be derived; they have the pool's noise, and no guard samples.
    """
    match recipe.signal, fitted:
        case Signal.SURROGATE, Spectrum() as spectrum:
            leads = render_surrogate(draft.words, spectrum, grid.sample_rate_hz, grid.seconds)
            leads = leads.at[:, :, 1].multiply(spectrum.ii_to_i)
        case Signal.FITTED, Priors() as priors:
            one = functools.partial(
                render_fitted, priors=priors, sample_rate_hz=grid.sample_rate_hz, seconds=grid.seconds
            )
            rows = draft.rows[Stage.PATIENT]
            leads = jax.vmap(one)(rows, draft.rows[Stage.BEATS], draft.words)
            ratio = jax.vmap(functools.partial(ii_to_i, priors=priors))(rows)
            leads = leads.at[:, :, 1].multiply(ratio[:, None])
        case Signal.ECGSYN, _:
            leads = jax.vmap(functools.partial(_ecgsyn, grid=grid))(draft.hearts)
        case Signal.VECTORS, _:
            raise ValueError("wave vectors are rendered by kernel_banks and project_hearts")
        case _:
            raise ValueError(
                f"a recipe of signal {recipe.signal.value!r} is given {type(fitted).__name__}: fit its own"
            )
    return jnp.swapaxes(leads, 1, 2)


def _ecgsyn(heart: Heart, grid: Grid) -> jax.Array:
    return render_ecgsyn(heart.trains, heart.patient, grid.sample_rate_hz, grid.seconds, grid.guard_samples)


def _recorded_heart(heart: Heart, settings: Settings | None, grid: Grid) -> Heart:
    """One heart as its recorder sees it.

    Pacing spikes are shorter than a sample: they are also averaged over about one, so that none is lost in between.
    """
    to_leads = jnp.asarray(ELECTRODES_TO_LEADS) if settings is None else recorder.heart_to_leads(settings)
    weights_mv = jax.tree.map(lambda at_electrodes: at_electrodes @ to_leads.T, heart.weights_mv)
    if settings is None and heart.wide is None:
        return dataclasses.replace(heart, weights_mv=weights_mv)
    banks = {name: getattr(heart, name) for name in ("narrow", "wide") if getattr(heart, name) is not None}
    width_s = jnp.concatenate([waves.width_s for waves in banks.values()])
    lowpass_s = 0.0 if settings is None else settings.lowpass_sigma_s
    of_sample_s = jnp.where(width_s < NARROWEST_WAVE_S, SPIKE_SMOOTHING_SAMPLES / grid.sample_rate_hz, 0.0)
    sigma_s = jnp.sqrt(lowpass_s**2 + of_sample_s**2)
    wider_s, _ = recorder.smoothed(width_s, weights_mv.rest[: len(width_s)], sigma_s)

    def smoothed(weights: jax.Array) -> jax.Array:
        """The kernels' rows smoothed; what follows them, the atrial harmonics, is slow and stays."""
        _, of_kernels = recorder.smoothed(width_s, weights[: len(width_s)], sigma_s)
        return jnp.concatenate([of_kernels, weights[len(width_s) :]])

    widths = jnp.split(wider_s, [len(heart.narrow.width_s)])
    banks = {name: dataclasses.replace(waves, width_s=wider) for (name, waves), wider in zip(banks.items(), widths)}
    return dataclasses.replace(heart, **banks, weights_mv=jax.tree.map(smoothed, weights_mv))


def noise_leads(draft: Draft, recipe: Recipe, grid: Grid) -> jax.Array:
    """Noise in leads I, II, V1–V6 as recorded: `(B, 8, grid.samples)` in mV. Raises ValueError for a recipe without."""
    noise = recipe.noise
    if noise is None:
        raise ValueError("this recipe has no noise")
    rate_hz, seconds, guard = dataclasses.astuple(grid)
    settings = draft.settings
    if settings is None:
        settings = jax.tree.map(lambda x: jnp.broadcast_to(x, (len(draft.words), *jnp.shape(x))), recorder.faultless())
    white = white_noise(draft.words, rate_hz, seconds, guard)

    def one(row: jax.Array, words: jax.Array, white: jax.Array, heart: Heart, settings: Settings) -> jax.Array:
        phase, breathing_hz = heart.trains.breath_phase, heart.patient.respiration_hz
        noise_mv = sample_noise(row, words, white, phase, breathing_hz, settings, noise, rate_hz, seconds, guard)
        return recorder.noise_to_leads(settings) @ noise_mv

    with jax.default_matmul_precision("highest"):
        return jax.vmap(one)(draft.rows[Stage.NOISE], draft.words, white, draft.hearts, settings)


def acquired(clean_mv: jax.Array, noise_mv: jax.Array | None, settings: Settings | None, grid: Grid) -> jax.Array:
    """What the recorder writes of clean leads and noise `(B, 8, samples)`: high-passed, clipped, in whole steps."""
    leads_mv = clean_mv if noise_mv is None else clean_mv + noise_mv
    if settings is None:
        return leads_mv

    def one(leads_mv: jax.Array, settings: Settings) -> jax.Array:
        slow = recorder.high_passed(leads_mv, settings.highpass_hz, grid.sample_rate_hz)
        return recorder.quantised(slow, settings)

    with jax.default_matmul_precision("highest"):
        return jax.vmap(one)(leads_mv, settings)


def all_leads(leads_BxLxS: jax.Array) -> jax.Array:
    """Leads I, II, V1–V6 `(B, 8, samples)` as the twelve of the record contract, `(B, samples, 12)`."""
    return twelve_leads(jnp.swapaxes(leads_BxLxS, 1, 2))


def synthesise(
    patient_keys: jax.Array, record_keys: jax.Array, recipe: Recipe, fitted: Fitted | None, grid: Grid
) -> jax.Array:
    """The leads I, II, V1–V6 of records as acquired, `(B, 8, grid.samples)`, in one function for a training step."""
    edges = jnp.asarray(recipe.conditions.edges()) if recipe.conditions else None
    draft = draw(patient_keys, record_keys, edges, recipe, grid.seconds)
    if recipe.signal is Signal.VECTORS:
        hearts = recorded_hearts(draft, grid)
        lines = timelines(hearts, grid)
        clean_mv = project_hearts(kernel_banks(hearts, lines, grid), hearts, lines, recipe)
    else:
        clean_mv = other_leads(draft, recipe, fitted, grid)
    noise_mv = noise_leads(draft, recipe, grid) if recipe.noise else None
    return acquired(clean_mv, noise_mv, draft.settings, grid)


declare("generator", vars(), "_VECTORS _STAGES NARROWEST_WAVE_S SPIKE_SMOOTHING_SAMPLES")
