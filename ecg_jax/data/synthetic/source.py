"""The synthetic source: patient -> rhythm -> morphology -> leads -> record, a pure function of (seed, index).

`draw`, `sample_leads` and `filtered` are traceable and hold on any device. `render` and `SyntheticSource` call them on
the host in fixed, aligned blocks: one compiled shape, so an index gives the same bytes whatever is asked with it.
"""

from __future__ import annotations

import collections
import concurrent.futures
import dataclasses
import functools
import hashlib
import json
import os
import threading
from collections.abc import Callable
from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from ecg_jax.data.ecg import LEADS
from ecg_jax.data.preprocess import chain_matrix, to_counts
from ecg_jax.data.synthetic import draws, leads, morphology, patient, rhythm
from ecg_jax.data.synthetic.draws import Stage, record_keys, stage_uniforms
from ecg_jax.data.synthetic.patient import ADULT, Patient, Population, sample_patient

_Result = TypeVar("_Result")

BLOCK_RECORDS = 32
#: At 250 Hz the narrowest kernel folds nothing into the pass band (up to 40 Hz): the filtered record is that of a
#: 500 Hz rendering to 1e-3 mV. Where an end of the record cuts a complex, the filters hang on single samples and up to
#: 1e-2 mV remain there; at 200 Hz more.
RENDER_RATE_HZ = 250
#: Samples rendered beyond either end, for the preprocessing to reach into.
GUARD_SAMPLES = 10


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Heart:
    """Everything drawn for a batch of records, before any sample is computed; every leaf has a leading batch axis."""

    patient: Patient
    rhythm: rhythm.Rhythm
    waves: morphology.Waves
    weights_mv: jax.Array  # (B, kernels, 8)


def draw(patient_keys: jax.Array, record_keys: jax.Array, population: Population, seconds: int) -> Heart:
    """Draws patients from `patient_keys` and their rhythms from `record_keys`, both `(B,)` (see `stage_uniforms`)."""
    beats = rhythm.beat_slots(population, seconds)

    def one(uniforms: jax.Array) -> Heart:
        patient = sample_patient(uniforms[Stage.PATIENT], population)
        trains = rhythm.sample_rhythm(uniforms[Stage.RHYTHM], patient, beats, seconds)
        waves = morphology.sample_waves(uniforms[Stage.MORPHOLOGY], patient, population)
        weights = leads.sample_lead_weights(uniforms[Stage.LEADS], waves.vector_mv, patient.body_gain, population)
        return Heart(patient, trains, waves, weights)

    return jax.vmap(one)(stage_uniforms(patient_keys, record_keys))


def sample_leads(heart: Heart, sample_rate_hz: int, seconds: int, guard_samples: int = 0) -> jax.Array:
    """Samples leads I, II, V1–V6 of a batch in mV: `(B, seconds * sample_rate_hz + 2 * guard_samples, 8)`."""
    one = functools.partial(
        morphology.render_leads, sample_rate_hz=sample_rate_hz, seconds=seconds, guard_samples=guard_samples
    )
    return jax.vmap(one)(heart.rhythm, heart.waves, heart.weights_mv)


def filtered(leads_BxSx8: jax.Array, chain: jax.Array) -> jax.Array:
    """Takes eight leads through the preprocessing and derives the other four: mV `(B, samples, 12)`, not rounded."""
    return leads.twelve_leads(jnp.einsum("ts,bsl->btl", chain, leads_BxSx8))


_record_keys = jax.jit(record_keys)
_draw = jax.jit(draw, static_argnames=("population", "seconds"))
_sample_leads = jax.jit(sample_leads, static_argnames=("sample_rate_hz", "seconds", "guard_samples"))
_filtered = jax.jit(filtered)
_twelve_leads = jax.jit(leads.twelve_leads)


@functools.cache
def _workers() -> concurrent.futures.ThreadPoolExecutor:
    """Threads that render on the host: a mesh set by `jax.set_mesh` holds for its own thread only, so never here."""
    return concurrent.futures.ThreadPoolExecutor(min(4, os.cpu_count() or 1), "ecg-render")


def on_host(work: Callable[..., _Result], *arguments: object) -> concurrent.futures.Future[_Result]:
    """Starts `work` on this process's first CPU device, outside any mesh, and returns its future."""

    def run() -> _Result:
        with jax.default_device(jax.local_devices(backend="cpu")[0]):
            return work(*arguments)

    return _workers().submit(run)


def draw_block(seed: int, block: int, population: Population, seconds: int) -> Heart:
    """Draws the records `32 * block` to `32 * block + 31` on the current device."""
    index = np.uint64(block * BLOCK_RECORDS) + np.arange(BLOCK_RECORDS, dtype=np.uint64)
    high, low = (index >> np.uint64(32)).astype(np.uint32), index.astype(np.uint32)
    keys = _record_keys(np.uint32(seed), high, low)
    return _draw(keys, keys, population, seconds)


def _render_block(seed: int, block: int, population: Population, sample_rate_hz: int, seconds: int) -> np.ndarray:
    heart = draw_block(seed, block, population, seconds)
    return np.asarray(_twelve_leads(_sample_leads(heart, sample_rate_hz, seconds)))


def _record_block(seed: int, block: int, population: Population, sample_rate_hz: int, seconds: int) -> np.ndarray:
    leads_BxSx8 = _sample_leads(draw_block(seed, block, population, seconds), RENDER_RATE_HZ, seconds, GUARD_SAMPLES)
    chain = _host_chain(sample_rate_hz, seconds)
    return to_counts(np.asarray(_filtered(leads_BxSx8, chain)))


@functools.lru_cache(maxsize=4)
def _host_chain(sample_rate_hz: int, seconds: int) -> jax.Array:
    return jnp.asarray(chain_matrix(seconds, RENDER_RATE_HZ, sample_rate_hz, GUARD_SAMPLES))


def render(
    seed: int,
    indices: np.ndarray,
    population: Population = ADULT,
    sample_rate_hz: int = RENDER_RATE_HZ,
    seconds: int = 10,
) -> np.ndarray:
    """The records at `indices` before preprocessing: float32 mV `(len(indices), seconds * sample_rate_hz, 12)`.

    Raises ValueError for a seed outside 32 bits and IndexError for an index outside 64 bits.
    """
    _check_seed(seed)
    blocks, inverse, rows = _split(_as_indices(indices))
    futures = [on_host(_render_block, seed, block, population, sample_rate_hz, seconds) for block in blocks]
    return _gather([future.result() for future in futures], inverse, rows, sample_rate_hz * seconds, np.float32)


def fingerprint(population: Population = ADULT) -> str:
    """SHA-256 over the generator's version, its constant tables and the population: the identity of its output."""
    tables = (
        (BLOCK_RECORDS, RENDER_RATE_HZ, GUARD_SAMPLES),
        (draws.DRAWS_PER_STAGE, draws.TRUNCATION_SD),
        (patient.SDNN_REFERENCE_RR_MS, patient.SDNN_REFERENCE_AGE_YEARS),
        (rhythm.LF_HZ, rhythm.BAND_SD_HZ, rhythm.COMPONENTS_PER_BAND, rhythm.AMPLITUDE_LIMIT_SD),
        (rhythm.QT_MEMORY_S, rhythm.MAX_RR_DEVIATION),
        (morphology.P_ONSET_MS, morphology.P_END_MS, morphology.QRS_ONSET_MS, morphology.QRS_END_MS),
        (morphology.T_PEAK_MS, morphology.T_END_MS),
        *(table.tolist() for table in (morphology.CENTRE_MS, morphology.WIDTH_MS, morphology.VECTOR_MV, leads.DOWER)),
    )
    constants = {
        "version": draws.GENERATOR_VERSION,
        "population": dataclasses.asdict(population),
        "tables": tables,
    }
    return hashlib.sha256(json.dumps(constants, sort_keys=True).encode()).hexdigest()


class SyntheticSource:
    """Synthetic records by index: an unbounded stream, or with `records` a finite pool (its first `records` records).

    Safe to share between threads and runs. Rendered blocks are kept for the `cache_records` records used last
    (100 Hz, 10 s: 24 kB each).
    """

    def __init__(
        self,
        seed: int,
        population: Population = ADULT,
        sample_rate_hz: int = 100,
        seconds: int = 10,
        records: int | None = None,
        cache_records: int = 16_384,
    ) -> None:
        """Raises ValueError for a seed outside 32 bits, an empty pool or a cache smaller than one block."""
        _check_seed(seed)
        if records is not None and records < 1:
            raise ValueError(f"records is {records}: a finite pool needs at least one record")
        if cache_records < BLOCK_RECORDS:
            raise ValueError(f"cache_records is {cache_records}: one block alone holds {BLOCK_RECORDS} records")
        self.seed = seed
        self.population = population
        self.sample_rate_hz = sample_rate_hz
        self.seconds = seconds
        self.records = records
        self.cache_blocks = cache_records // BLOCK_RECORDS
        self._blocks: collections.OrderedDict[int, concurrent.futures.Future[np.ndarray]] = collections.OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        if self.records is None:
            raise TypeError("this synthetic source is unbounded and has no length; give `records` for a finite pool")
        return self.records

    def __getitem__(self, index: int) -> np.ndarray:
        """Returns the record at `index` as int16 `(samples, 12)`, 1 µV per count."""
        return self.read(np.array([index]))[0]

    def read(self, indices: np.ndarray) -> np.ndarray:
        """Returns the records at `indices` as int16 `(len(indices), samples, 12)`, 1 µV per count.

        Raises IndexError for a negative index, or one outside the finite pool.
        """
        index = _as_indices(indices)
        if self.records is not None and index.size and int(index.max()) >= self.records:
            raise IndexError(f"record {int(index.max())} of a finite synthetic pool of {self.records} records")
        blocks, inverse, rows = _split(index)
        rendered = [future.result() for future in self._futures(blocks)]
        return _gather(rendered, inverse, rows, self.sample_rate_hz * self.seconds, np.int16)

    def _futures(self, blocks: list[int]) -> list[concurrent.futures.Future[np.ndarray]]:
        """The blocks' futures, each rendered at most once while it is cached, by whichever thread asks first."""
        futures = []
        with self._lock:
            for block in blocks:
                if block not in self._blocks:
                    self._blocks[block] = on_host(
                        _record_block, self.seed, block, self.population, self.sample_rate_hz, self.seconds
                    )
                self._blocks.move_to_end(block)
                futures.append(self._blocks[block])
            while len(self._blocks) > self.cache_blocks:
                self._blocks.popitem(last=False)
        return futures


def _check_seed(seed: int) -> None:
    if not 0 <= seed < 2**32:
        raise ValueError(f"seed is {seed}: the synthetic source takes 0 to {2**32 - 1}")


def _as_indices(indices: np.ndarray) -> np.ndarray:
    """Checks record indices and returns them as uint64."""
    given = np.asarray(indices)
    if given.ndim != 1 or (given.size and not np.issubdtype(given.dtype, np.integer)):
        raise IndexError(f"record indices must be a one-dimensional array of integers, not {given.dtype}{given.shape}")
    if given.size and given.min() < 0:
        raise IndexError(f"record {given.min()}: indices of the synthetic source start at 0")
    return given.astype(np.uint64)


def _split(index: np.ndarray) -> tuple[list[int], np.ndarray, np.ndarray]:
    """The distinct blocks that hold `index`, and for each index its place among them and its row inside."""
    blocks, inverse = np.unique(index // np.uint64(BLOCK_RECORDS), return_inverse=True)
    return [int(block) for block in blocks], inverse, (index % np.uint64(BLOCK_RECORDS)).astype(np.intp)


def _gather(
    blocks: list[np.ndarray], inverse: np.ndarray, rows: np.ndarray, samples: int, dtype: type[np.generic]
) -> np.ndarray:
    out = np.empty((len(rows), samples, len(LEADS)), dtype)
    for place, block in enumerate(blocks):
        out[inverse == place] = block[rows[inverse == place]]
    return out
