"""Version 3 of the generator as functions that trace: keys -> hearts, beats and recorder -> leads as written.

So far hearts in sinus rhythm, with any morphology of `sources`. No tier names it: it is chosen by calling it.
"""

from __future__ import annotations

import dataclasses
import enum
import functools

import jax
import jax.numpy as jnp
import numpy as np

from ecg_jax.data.synthetic.constants import declare
from ecg_jax.data.synthetic.physiology.composition import Group, flags_of
from ecg_jax.data.synthetic.physiology.leads import ELECTRODES_TO_LEADS, twelve_leads
from ecg_jax.data.synthetic.physiology.patient import ADULT, Patient, Population, sample_patient
from ecg_jax.data.synthetic.physiology.rhythm import beat_slots
from ecg_jax.data.synthetic.physiology.sampling import Grid
from ecg_jax.data.synthetic.randomness import hashing
from ecg_jax.data.synthetic.randomness.draws import DRAWS_PER_ROW, record_keys
from ecg_jax.data.synthetic.recorder.acquisition import Settings, heart_to_leads, noise_to_leads
from ecg_jax.data.synthetic.recorder.devices import Recorder, recorded, sample_recorder
from ecg_jax.data.synthetic.recorder.electrode_noise import ElectrodeNoise, fast_noise, slow_noise, white_noise
from ecg_jax.data.synthetic.render.changing_beats import Banks, BeatTrain, banks_of, fiducials_s, leads_of, sinus_beats
from ecg_jax.data.synthetic.sources import Beat, beat_of, sample_heart
from ecg_jax.data.synthetic.variability import (
    BeatToBeat,
    Breath,
    Breathing,
    Changes,
    TenSeconds,
    sample_breath,
    sample_changes,
    sample_rhythm,
    sample_spread,
)
from ecg_jax.data.synthetic.variability.beats import BEAT_DRAWS, CHANGE_DRAWS
from ecg_jax.data.synthetic.variability.breath import BREATH_DRAWS

#: Part of every key, so that no record of version 2 has draws of version 3.
VERSION = 3
#: Folded into a record's key for the words of its counter hash; the stream of its normal draws by beat.
WORDS, BEAT_STREAM = 1000, 5


class Row(enum.IntEnum):
    """The rows of uniform draws of one record."""

    PATIENT = 0
    ANATOMY = 1
    DISEASE = 2
    SPREAD = 3
    BREATH = 4
    RHYTHM = 5
    CHANGES = 6
    NOISE = 7
    RECORDER = 8


@dataclasses.dataclass(frozen=True)
class Recipe:
    """Everything that decides a record of version 3 besides its seed and index; noise and recorder may be left out."""

    population: Population = ADULT
    spread: TenSeconds = TenSeconds()  # noqa: RUF009 (frozen)
    breathing: Breathing = Breathing()  # noqa: RUF009
    beats: BeatToBeat = BeatToBeat()  # noqa: RUF009
    noise: ElectrodeNoise | None = ElectrodeNoise()  # noqa: RUF009
    recorder: Recorder | None = Recorder()  # noqa: RUF009


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Draft:
    """All that is drawn of a batch of records; `settings` is None where the recipe has no recorder."""

    patient: Patient
    beat: Beat
    train: BeatTrain
    changes: Changes
    breath: Breath
    settings: Settings | None
    noise_row: jax.Array  # (B, draws)
    words: jax.Array  # (B, 2) uint32

    @property
    def recorders(self) -> Settings:
        """The settings of a recipe with a recorder. Raises ValueError for another."""
        if self.settings is None:
            raise ValueError("this recipe has no recorder: leave out its noise as well, or give one")
        return self.settings


def keys_of(seed: int, indices: np.ndarray) -> jax.Array:
    """Threefry keys `(B,)` of the records at indices from 0 on."""
    index = np.asarray(indices).astype(np.uint64)
    high, low = (index >> np.uint64(32)).astype(np.uint32), index.astype(np.uint32)
    return record_keys(np.uint32(seed), high, low, VERSION)


@functools.partial(jax.jit, static_argnames=("recipe", "seconds"))
def draw(keys: jax.Array, flags: jax.Array, recipe: Recipe, seconds: int) -> Draft:
    """Draws the hearts, rhythms and recorders of records with keys `(B,)` and flags `(B, len(Morphology))`."""
    fold = jax.vmap(jax.vmap(jax.random.fold_in), (0, None))
    folded = fold(jnp.tile(keys[:, None], (1, len(Row) + 1)), jnp.array([*Row, WORDS]))
    words = jax.random.key_data(folded[:, -1])
    uniform = jax.vmap(jax.vmap(lambda key: jax.random.uniform(key, (2 * DRAWS_PER_ROW,))))(folded[:, :-1])
    beats = beat_slots(recipe.population.heart_rate_max_bpm, seconds)
    normals = hashing.normals(hashing.forked(words, BEAT_STREAM), beats * (1 + BEAT_DRAWS))
    one = functools.partial(_draw_one, recipe=recipe, seconds=seconds)
    drawn = jax.vmap(one)(uniform, normals.reshape(-1, beats, 1 + BEAT_DRAWS), flags)
    return Draft(*drawn, uniform[:, Row.NOISE], words)


def _draw_one(
    rows: jax.Array, normals: jax.Array, flags: jax.Array, recipe: Recipe, seconds: int
) -> tuple[Patient, Beat, BeatTrain, Changes, Breath, Settings | None]:
    patient = sample_patient(rows[Row.PATIENT], recipe.population)
    of_heart = rows[Row.ANATOMY], rows[Row.DISEASE]
    anatomy, patient, state = sample_heart(*of_heart, flags, patient, recipe.population)
    beat = beat_of(anatomy, patient, state)
    breath = sample_breath(rows[Row.BREATH, :BREATH_DRAWS], recipe.breathing)
    spread, mean_rr_s = recipe.spread, patient.mean_rr_s
    variability_ms = sample_spread(rows[Row.SPREAD], patient.age_years, patient.is_female, mean_rr_s, spread)
    rhythm = sample_rhythm(rows[Row.RHYTHM], normals[:, 0], mean_rr_s, *variability_ms, breath, spread.beat_share)
    of_changes = rows[Row.CHANGES, :CHANGE_DRAWS]
    changes = sample_changes(of_changes, normals[:, 1:], breath.at(rhythm.onset_s), rhythm.rr_s, recipe.beats)
    settings = sample_recorder(rows[Row.RECORDER], recipe.recorder) if recipe.recorder else None
    return patient, beat, sinus_beats(rhythm, changes, patient, seconds), changes, breath, settings


@functools.partial(jax.jit, static_argnames="grid")
def _banks(draft: Draft, low_pass_s: jax.Array, grid: Grid) -> Banks:
    of_one = functools.partial(banks_of, grid=grid)
    return jax.vmap(lambda *drawn: of_one(*drawn[:3], low_pass_s=drawn[3]))(
        draft.beat, draft.train, draft.changes, low_pass_s
    )


@jax.jit
def _projected(draft: Draft, banks: Banks, to_leads: jax.Array) -> jax.Array:
    with jax.default_matmul_precision("highest"):
        return jax.vmap(leads_of)(draft.beat, draft.changes, banks, to_leads)


def clean_leads(draft: Draft, grid: Grid) -> jax.Array:
    """Leads I, II, V1–V6 before noise and recorder, `(B, 8, samples)` in mV."""
    records = len(draft.words)
    to_leads = jnp.broadcast_to(jnp.asarray(ELECTRODES_TO_LEADS), (records, *ELECTRODES_TO_LEADS.shape))
    return _projected(draft, _banks(draft, jnp.zeros(records), grid), to_leads)


def recorded_leads(draft: Draft, grid: Grid) -> jax.Array:
    """The same behind the recorder's electrodes and low-pass."""
    to_leads = jax.vmap(heart_to_leads)(draft.recorders)
    return _projected(draft, _banks(draft, draft.recorders.lowpass_sigma_s, grid), to_leads)


@functools.partial(jax.jit, static_argnames=("noise", "grid"))
def slow_leads(draft: Draft, noise: ElectrodeNoise, grid: Grid) -> jax.Array:
    """Slow noise in leads I, II, V1–V6 as recorded, `(B, 8, samples)`."""

    def one(row: jax.Array, words: jax.Array, breath: Breath, settings: Settings) -> jax.Array:
        air = breath.at(grid.time_s())
        return slow_noise(row, words, air, settings, noise, grid, noise_to_leads(settings))

    with jax.default_matmul_precision("highest"):
        return jax.vmap(one)(draft.noise_row, draft.words, draft.breath, draft.recorders)


@functools.partial(jax.jit, static_argnames=("noise", "grid"))
def fast_leads(draft: Draft, noise: ElectrodeNoise, grid: Grid) -> jax.Array:
    """Muscle and amplifier noise in leads I, II, V1–V6 as recorded, `(B, 8, samples)`."""

    def one(row: jax.Array, words: jax.Array, white: jax.Array, settings: Settings) -> jax.Array:
        return noise_to_leads(settings) @ fast_noise(row, words, white, settings, noise, grid)

    with jax.default_matmul_precision("highest"):
        return jax.vmap(one)(draft.noise_row, draft.words, white_noise(draft.words, grid), draft.recorders)


@functools.partial(jax.jit, static_argnames="grid")
def _written(leads_mv: jax.Array, settings: Settings, grid: Grid) -> jax.Array:
    with jax.default_matmul_precision("highest"):
        return jax.vmap(functools.partial(recorded, sample_rate_hz=grid.sample_rate_hz))(leads_mv, settings)


def render(draft: Draft, recipe: Recipe, grid: Grid) -> tuple[jax.Array, jax.Array]:
    """The twelve leads of a draft as written, and without noise and recorder, each `(B, samples, 12)` in mV.

    Raises ValueError for a recipe with noise and no recorder: noise is what a recorder's electrodes pick up.
    """
    if recipe.noise and recipe.recorder is None:
        raise ValueError("a recipe with noise needs a recorder: leave the noise out, or give one")
    clean = clean_leads(draft, grid)
    all_clean = twelve_leads(jnp.swapaxes(clean, 1, 2))
    if recipe.recorder is None:
        return all_clean, all_clean
    leads = recorded_leads(draft, grid)
    if recipe.noise:
        leads = leads + slow_leads(draft, recipe.noise, grid) + fast_leads(draft, recipe.noise, grid)
    return _written(leads, draft.settings, grid), all_clean


@jax.jit
def fiducials_of(draft: Draft) -> jax.Array:
    """Onset, peak and end of P, QRS and T of every beat, `(B, K, 3, 3)` in seconds; NaN in unused slots."""
    return jax.vmap(fiducials_s)(draft.beat, draft.train, draft.changes)


def sinus_records(
    seed: int, indices: np.ndarray, recipe: Recipe, grid: Grid, morphologies: Group = ()
) -> tuple[Draft, np.ndarray, np.ndarray, np.ndarray]:
    """Records in sinus rhythm of hearts with all of these morphologies: their draft, `(B, samples, 12)` as written and
    clean, and fiducials `(B, K, 3, 3)`.
    """
    flags = np.tile(flags_of(*morphologies), (len(indices), 1))
    draft = draw(keys_of(seed, indices), flags, recipe, grid.seconds)
    written, clean = render(draft, recipe, grid)
    return draft, np.asarray(written), np.asarray(clean), np.asarray(fiducials_of(draft))


declare("version_3", vars(), "VERSION WORDS BEAT_STREAM Row", version=3)
