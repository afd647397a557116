"""Version 3 of the generator as functions that trace: keys -> hearts, beats and recorder -> leads as written.

No tier names it yet: it is chosen by calling it.
"""

from __future__ import annotations

import dataclasses
import enum
import functools

import jax
import jax.numpy as jnp
import numpy as np

from ecg_jax.data.synthetic.constants import declare
from ecg_jax.data.synthetic.physiology.arrhythmia import FASTEST_BPM
from ecg_jax.data.synthetic.physiology.composition import (
    HEART_PREVALENCE,
    HeartConditions,
    HeartMix,
    MixTable,
    flags_of,
    sample_heart_conditions,
)
from ecg_jax.data.synthetic.physiology.conditions import with_rhythm, with_room
from ecg_jax.data.synthetic.physiology.events import sample_events, sinus_events
from ecg_jax.data.synthetic.physiology.leads import ELECTRODES_TO_LEADS, twelve_leads
from ecg_jax.data.synthetic.physiology.patient import ADULT, Patient, Population, sample_patient
from ecg_jax.data.synthetic.physiology.rhythm import beat_slots
from ecg_jax.data.synthetic.physiology.sampling import Grid
from ecg_jax.data.synthetic.randomness import hashing
from ecg_jax.data.synthetic.randomness.draws import DRAWS_PER_ROW, record_keys
from ecg_jax.data.synthetic.recorder.acquisition import Settings, heart_to_leads, noise_to_leads
from ecg_jax.data.synthetic.recorder.devices import Recorder, recorded, sample_recorder
from ecg_jax.data.synthetic.recorder.electrode_noise import ElectrodeNoise, fast_noise, slow_noise, white_noise
from ecg_jax.data.synthetic.render.changing_beats import (
    BeatTrain,
    Wave,
    banks_of,
    fiducials_s,
    leads_of,
    smoothed,
    train_of,
)
from ecg_jax.data.synthetic.sources import Kinds, conducted_alone, sample_heart, sample_kinds
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
    scaled_spread,
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
    CONDITIONS = 9
    EVENTS = 10
    KINDS = 11


@dataclasses.dataclass(frozen=True)
class Recipe:
    """Everything that decides a record of version 3 besides its seed and index; conditions, noise and recorder may be
    left out."""

    population: Population = ADULT
    spread: TenSeconds = TenSeconds()  # noqa: RUF009 (frozen)
    breathing: Breathing = Breathing()  # noqa: RUF009
    beats: BeatToBeat = BeatToBeat()  # noqa: RUF009
    conditions: HeartMix | None = None
    noise: ElectrodeNoise | None = ElectrodeNoise()  # noqa: RUF009
    recorder: Recorder | None = Recorder()  # noqa: RUF009

    @property
    def compiled(self) -> Recipe:
        """The recipe as compiled programs know it: how frequent the conditions are is data, and compiles nothing."""
        return self if self.conditions is None else dataclasses.replace(self, conditions=HEART_PREVALENCE)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Draft:
    """All that is drawn of a batch of records; `conditions` and `settings` are None where the recipe has none."""

    patient: Patient
    conditions: HeartConditions | None
    kinds: Kinds
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
def draw(keys: jax.Array, mix: MixTable | None, recipe: Recipe, seconds: int) -> Draft:
    """Draws the hearts, rhythms and recorders of records with keys `(B,)`; `mix` is the table of its conditions."""
    fold = jax.vmap(jax.vmap(jax.random.fold_in), (0, None))
    folded = fold(jnp.tile(keys[:, None], (1, len(Row) + 1)), jnp.array([*Row, WORDS]))
    words = jax.random.key_data(folded[:, -1])
    uniform = jax.vmap(jax.vmap(lambda key: jax.random.uniform(key, (2 * DRAWS_PER_ROW,))))(folded[:, :-1])
    fastest_bpm = recipe.population.heart_rate_max_bpm
    beats = beat_slots(max(fastest_bpm, FASTEST_BPM) if recipe.conditions else fastest_bpm, seconds)
    normals = hashing.normals(hashing.forked(words, BEAT_STREAM), beats * (1 + BEAT_DRAWS))
    one = functools.partial(_draw_one, mix=mix, recipe=recipe, seconds=seconds)
    drawn = jax.vmap(one)(uniform, normals.reshape(-1, beats, 1 + BEAT_DRAWS))
    return Draft(*drawn, uniform[:, Row.NOISE], words)


def _draw_one(
    rows: jax.Array, normals: jax.Array, mix: MixTable | None, recipe: Recipe, seconds: int
) -> tuple[Patient, HeartConditions | None, Kinds, BeatTrain, Changes, Breath, Settings | None]:
    patient, conditions, kinds, sdnn_ms = _draw_heart(rows, mix, recipe)
    breath = sample_breath(rows[Row.BREATH, :BREATH_DRAWS], recipe.breathing)
    spread, mean_rr_s = recipe.spread, patient.mean_rr_s
    variability_ms = sample_spread(rows[Row.SPREAD], patient.age_years, patient.is_female, mean_rr_s, spread)
    if conditions:
        is_usual, (rmssd_ms, of_rhythm_ms) = jnp.isnan(sdnn_ms), scaled_spread(*variability_ms, sdnn_ms)
        usual_rmssd_ms, usual_sdnn_ms = variability_ms
        variability_ms = (
            jnp.where(is_usual, usual_rmssd_ms, rmssd_ms),
            jnp.where(is_usual, usual_sdnn_ms, of_rhythm_ms),
        )
    node = sample_rhythm(rows[Row.RHYTHM], normals[:, 0], mean_rr_s, *variability_ms, breath, spread.beat_share)
    if conditions:
        events = sample_events(rows[Row.EVENTS], node, patient, conditions.rhythm, seconds)
    else:
        events = sinus_events(node, patient)
    rr_s = jnp.append(jnp.diff(events.qrs_onset_s), mean_rr_s)
    of_changes, at_beats = rows[Row.CHANGES, :CHANGE_DRAWS], breath.at(events.qrs_onset_s)
    changes = sample_changes(of_changes, normals[:, 1:], at_beats, rr_s, recipe.beats)
    train = train_of(events, changes, patient, seconds)
    settings = sample_recorder(rows[Row.RECORDER], recipe.recorder) if recipe.recorder else None
    patient = dataclasses.replace(patient, sdnn_ms=variability_ms[1], respiration_hz=breath.rate_hz)
    return patient, conditions, kinds, train, changes, breath, settings


def _draw_heart(
    rows: jax.Array, mix: MixTable | None, recipe: Recipe
) -> tuple[Patient, HeartConditions | None, Kinds, jax.Array]:
    """The patient, its conditions, its kinds of beat, and the SDNN (ms) that its rhythm sets, NaN for none."""
    patient = sample_patient(rows[Row.PATIENT], recipe.population)
    of_heart = rows[Row.ANATOMY], rows[Row.DISEASE]
    if recipe.conditions is None:
        anatomy, patient, state = sample_heart(*of_heart, jnp.asarray(flags_of()), patient, recipe.population)
        return patient, None, conducted_alone(anatomy, patient, state), jnp.full((), jnp.nan)
    if mix is None:
        raise ValueError("a recipe of conditions needs the table of its mix (HeartMix.table)")
    conditions = sample_heart_conditions(rows[Row.CONDITIONS, 0], mix)
    patient, is_set = with_rhythm(rows[Row.CONDITIONS], patient, conditions.rhythm)
    before = patient
    anatomy, patient, state = sample_heart(*of_heart, conditions.flags, patient, recipe.population)
    patient = with_room(patient, is_set["pr_ms"] | (patient.pr_ms != before.pr_ms))
    kinds = sample_kinds(rows[Row.KINDS], conditions.rhythm, anatomy, patient, state)
    return patient, conditions, kinds, jnp.where(is_set["sdnn_ms"], patient.sdnn_ms, jnp.nan)


@functools.partial(jax.jit, static_argnames="grid")
def smoothed_kinds(draft: Draft, grid: Grid) -> Kinds:
    """The kinds of beat of every record behind its recorder's low-pass."""
    records = len(draft.words)
    low_pass_s = jnp.zeros(records) if draft.settings is None else draft.settings.lowpass_sigma_s
    return jax.vmap(functools.partial(smoothed, sample_rate_hz=grid.sample_rate_hz))(draft.kinds, low_pass_s)


@functools.partial(jax.jit, static_argnames="grid")
def _banks(draft: Draft, kinds: Kinds, grid: Grid) -> tuple[tuple[Wave, Wave, Wave], jax.Array]:
    return jax.vmap(functools.partial(banks_of, grid=grid))(kinds, draft.train, draft.changes)


@jax.jit
def _projected(draft: Draft, kinds: Kinds, banks: tuple[tuple[Wave, Wave, Wave], jax.Array]) -> jax.Array:
    if draft.settings is None:
        to_leads = jnp.broadcast_to(jnp.asarray(ELECTRODES_TO_LEADS), (len(draft.words), *ELECTRODES_TO_LEADS.shape))
    else:
        to_leads = jax.vmap(heart_to_leads)(draft.settings)
    with jax.default_matmul_precision("highest"):
        return jax.vmap(leads_of)(kinds, draft.changes, banks, to_leads)


def recorded_leads(draft: Draft, grid: Grid) -> jax.Array:
    """Leads I, II, V1–V6 behind the recorder's electrodes and low-pass, without noise, `(B, 8, samples)` in mV."""
    kinds = smoothed_kinds(draft, grid)
    return _projected(draft, kinds, _banks(draft, kinds, grid))


def clean_leads(draft: Draft, grid: Grid) -> jax.Array:
    """The same before any recorder."""
    return recorded_leads(dataclasses.replace(draft, settings=None), grid)


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
    return jax.vmap(fiducials_s)(draft.kinds, draft.train, draft.changes)


def records(
    seed: int, indices: np.ndarray, recipe: Recipe, grid: Grid
) -> tuple[Draft, np.ndarray, np.ndarray, np.ndarray]:
    """Records: their draft, `(B, samples, 12)` as written and clean, and fiducials `(B, K, 3, 3)`."""
    mix = recipe.conditions.table() if recipe.conditions else None
    draft = draw(keys_of(seed, indices), mix, recipe.compiled, grid.seconds)
    written, clean = render(draft, recipe, grid)
    return draft, np.asarray(written), np.asarray(clean), np.asarray(fiducials_of(draft))


declare("version_3", vars(), "VERSION WORDS BEAT_STREAM Row", version=3)
