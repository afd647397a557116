"""The synthetic source: records by index, rendered on the host, as an unbounded stream or a finite pool of patients.

Rendered in fixed, aligned blocks: one compiled shape, so an index gives the same bytes whatever is asked with it, in
whatever batch, thread or process.
"""

from __future__ import annotations

import collections
import concurrent.futures
import functools
import os
import threading
from collections.abc import Callable
from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from ecg_jax.data.ecg import LEADS, PUBLISHED, Simulated
from ecg_jax.data.factored import FactoredChain, factored_chain
from ecg_jax.data.preprocess import to_counts
from ecg_jax.data.synthetic.constants import declare
from ecg_jax.data.synthetic.physiology.sampling import Grid
from ecg_jax.data.synthetic.randomness.draws import VISITS, record_keys
from ecg_jax.data.synthetic.render import generator
from ecg_jax.data.synthetic.render.generator import Draft, Fitted
from ecg_jax.data.synthetic.render.identity import fingerprint
from ecg_jax.data.synthetic.render.tiers import Recipe, Signal, Tier, recipe, tier_of

_Result = TypeVar("_Result")

BLOCK_RECORDS = 32
#: At 250 Hz the narrowest kernel folds nothing into the pass band (up to 40 Hz): the filtered record is that of a
#: 500 Hz rendering to 1e-3 mV. Where an end of the record cuts a complex, the filters hang on single samples and up to
#: 1e-2 mV remain there; at 200 Hz more.
RENDER_RATE_HZ = 250
#: Samples rendered beyond either end, for the preprocessing to reach into.
GUARD_SAMPLES = 10
RATES_HZ = (100, 200, 250, 500, 1000)
#: Shorter records lose what their label promises; longer ones have more beats than a record has draws for.
SECONDS, SECONDS_OF_CONDITIONS = (2, 20), (5, 16)


@functools.partial(jax.jit, static_argnames="records_per_patient")
def index_keys(
    seed: jax.Array, index_high: jax.Array, index_low: jax.Array, records_per_patient: int = 1
) -> tuple[jax.Array, jax.Array]:
    """Keys `(B,)` of the patient and of the recording at 64-bit record indices, given as two uint32 halves `(B,)`.

    With more than one record per patient the index must fit 32 bits.
    """
    visit = jnp.zeros_like(index_low)
    if records_per_patient > 1:
        visit, index_low = index_low % records_per_patient, index_low // records_per_patient
    patients = record_keys(seed, index_high, index_low)
    return patients, jax.vmap(jax.random.fold_in)(patients, visit + VISITS)


_draw = jax.jit(generator.draw, static_argnames=("recipe", "seconds"))
recorded_hearts = jax.jit(generator.recorded_hearts, static_argnames="grid")
_timelines = jax.jit(generator.timelines, static_argnames="grid")
_banks = jax.jit(generator.kernel_banks, static_argnames="grid")
_project = jax.jit(generator.project_hearts, static_argnames="recipe")
_other = jax.jit(generator.other_leads, static_argnames=("recipe", "grid"))
_noise = jax.jit(generator.noise_leads, static_argnames=("recipe", "grid"))
_acquired = jax.jit(generator.acquired, static_argnames="grid")
all_leads = jax.jit(generator.all_leads)


@jax.jit
def _filtered(leads_BxLxS: jax.Array, chain: FactoredChain) -> jax.Array:
    records, leads, samples = leads_BxLxS.shape
    return generator.all_leads(chain(leads_BxLxS.reshape(-1, samples)).reshape(records, leads, -1))


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


@functools.lru_cache(maxsize=4)
def host_chain(sample_rate_hz: int, seconds: int) -> FactoredChain:
    """The preprocessing of a rendered record, on this process's first CPU device."""
    chain = factored_chain(seconds, RENDER_RATE_HZ, sample_rate_hz, GUARD_SAMPLES)
    return jax.device_put(chain, jax.local_devices(backend="cpu")[0])


def draw_block(seed: int, block: int, made_by: Recipe, seconds: int, records_per_patient: int = 1) -> Draft:
    """Draws the records `32 * block` to `32 * block + 31` on the current device."""
    index = np.uint64(block * BLOCK_RECORDS) + np.arange(BLOCK_RECORDS, dtype=np.uint64)
    high, low = (index >> np.uint64(32)).astype(np.uint32), index.astype(np.uint32)
    keys = index_keys(np.uint32(seed), high, low, records_per_patient)
    edges = made_by.conditions.edges() if made_by.conditions else None
    return _draw(*keys, edges, recipe=made_by.compiled, seconds=seconds)


def render_draft(draft: Draft, made_by: Recipe, fitted: Fitted | None, grid: Grid) -> tuple[jax.Array, jax.Array]:
    """The leads I, II, V1–V6 of a draft as acquired, and as they are without noise, each `(B, 8, grid.samples)`."""
    made_by = made_by.compiled
    if made_by.signal is Signal.VECTORS:
        hearts = recorded_hearts(draft, grid=grid)
        lines = _timelines(hearts, grid=grid)
        clean = _project(_banks(hearts, lines, grid=grid), hearts, lines, recipe=made_by)
    else:
        clean = _other(draft, recipe=made_by, fitted=fitted, grid=grid)
    noise = _noise(draft, recipe=made_by, grid=grid) if made_by.noise else None
    if noise is None and draft.settings is None:
        return clean, clean
    return _acquired(clean, noise, draft.settings, grid=grid), clean


def record_block(draft: Draft, made_by: Recipe, fitted: Fitted | None, sample_rate_hz: int, seconds: int) -> np.ndarray:
    """The preprocessed records of a draft as int16 `(B, samples, 12)`: what training reads.

    Tiers fitted to a pool of preprocessed records are rendered as such.
    """
    if made_by.needs_priors:
        leads, _ = render_draft(draft, made_by, fitted, Grid(sample_rate_hz, seconds))
        return to_counts(np.asarray(all_leads(leads)))
    leads, _ = render_draft(draft, made_by, fitted, Grid(RENDER_RATE_HZ, seconds, GUARD_SAMPLES))
    return to_counts(np.asarray(_filtered(leads, host_chain(sample_rate_hz, seconds))))


def check_request(made_by: Recipe, fitted: Fitted | None, sample_rate_hz: int, seconds: int, seed: int = 0) -> None:
    """Raises ValueError for what cannot be rendered, before anything is: priors, rate, length, seed."""
    _check_seed(seed)
    if sample_rate_hz not in RATES_HZ:
        raise ValueError(f"sample rate {sample_rate_hz} Hz: records are rendered at {RATES_HZ} Hz")
    least, most = SECONDS if made_by.conditions is None else SECONDS_OF_CONDITIONS
    if not (least <= seconds <= most and seconds == int(seconds)):
        raise ValueError(f"{seconds} seconds: a record of this recipe lasts from {least} to {most} whole seconds")
    if made_by.needs_priors != (fitted is not None):
        raise ValueError(
            f"signal {made_by.signal.value!r} "
            + (
                "needs priors fitted to a pool (fit_priors, fit_spectrum)"
                if fitted is None
                else "takes no fitted priors"
            )
        )
    if fitted is not None:
        fitted.pool.require_format(type(fitted).__name__, sample_rate_hz, seconds)


def render(
    seed: int,
    indices: np.ndarray,
    made_by: Recipe | None = None,
    sample_rate_hz: int = RENDER_RATE_HZ,
    seconds: int = 10,
    fitted: Fitted | None = None,
) -> np.ndarray:
    """The records at `indices` before preprocessing: float32 `(len(indices), seconds * sample_rate_hz, 12)`, in mV (of
    tiers fitted to a pool: in standard deviations).

    The default recipe is tier T1d. Raises ValueError for a request that cannot be met and IndexError for an index
    outside 64 bits.
    """
    made_by = recipe(Tier.ACQUISITION) if made_by is None else made_by
    check_request(made_by, fitted, sample_rate_hz, seconds, seed)

    def block_of(block: int) -> np.ndarray:
        draft = draw_block(seed, block, made_by, seconds)
        return np.asarray(all_leads(render_draft(draft, made_by, fitted, Grid(sample_rate_hz, seconds))[0]))

    blocks, inverse, rows = split_indices(indices)
    futures = [on_host(block_of, block) for block in blocks]
    return _gather([future.result() for future in futures], inverse, rows, sample_rate_hz * seconds, np.float32)


class SyntheticSource:
    """Synthetic records by index: an unbounded stream, or with `patients` a finite pool.

    Index i is recording `i % records_per_patient` of patient `i // records_per_patient`. Safe to share between threads
    and runs. Rendered blocks are kept for the `cache_records` records used last (100 Hz, 10 s: 24 kB each).
    """

    def __init__(
        self,
        seed: int,
        made_by: Recipe | None = None,
        sample_rate_hz: int = 100,
        seconds: int = 10,
        *,
        patients: int | None = None,
        records_per_patient: int = 1,
        fitted: Fitted | None = None,
        cache_records: int = 16_384,
    ) -> None:
        """The default recipe is tier T1d. Raises ValueError for a request that cannot be met."""
        self.made_by = recipe(Tier.ACQUISITION) if made_by is None else made_by
        check_request(self.made_by, fitted, sample_rate_hz, seconds, seed)
        for name, value in (("patients", patients), ("records_per_patient", records_per_patient)):
            if value is not None and value < 1:
                raise ValueError(f"{name} is {value}: a pool needs at least one")
        if patients is not None and patients * records_per_patient > 2**31:
            raise ValueError(f"{patients} patients x {records_per_patient} records: a finite pool holds at most 2^31")
        if patients is None and records_per_patient > 1:
            raise ValueError(f"records_per_patient is {records_per_patient}: only a finite pool repeats its patients")
        if cache_records < BLOCK_RECORDS:
            raise ValueError(f"cache_records is {cache_records}: one block alone holds {BLOCK_RECORDS} records")
        self.seed, self.sample_rate_hz, self.seconds, self.fitted = seed, sample_rate_hz, seconds, fitted
        self.patients, self.records_per_patient = patients, records_per_patient
        self.cache_blocks = cache_records // BLOCK_RECORDS
        self._blocks: collections.OrderedDict[int, concurrent.futures.Future[np.ndarray]] = collections.OrderedDict()
        self._lock = threading.Lock()

    @property
    def identity(self) -> str:
        """What decides every record of this source, in one line: fingerprint, format, seed, records per patient."""
        pool = self.fitted.pool.digest if self.fitted else ""
        repeats = f" x {self.records_per_patient}" if self.records_per_patient > 1 else ""
        form = f"{self.seconds} s at {self.sample_rate_hz} Hz"
        return f"{fingerprint(self.made_by, pool)} {form} seed {self.seed}{repeats}"

    @property
    def real_information(self) -> str:
        """What this source knows of real recordings, as it enters a run's row."""
        return self.fitted.pool.real_information if self.fitted else PUBLISHED

    @property
    def simulated(self) -> Simulated:
        """What its records say of themselves."""
        tier = tier_of(self.made_by)
        return Simulated("" if tier is None else tier.value, self.real_information)

    def __getstate__(self) -> dict[str, object]:
        """Without what is cached: a worker process renders for itself."""
        return {name: value for name, value in vars(self).items() if name not in ("_blocks", "_lock")}

    def __setstate__(self, state: dict[str, object]) -> None:
        vars(self).update(state, _blocks=collections.OrderedDict(), _lock=threading.Lock())

    def __len__(self) -> int:
        if self.patients is None:
            raise TypeError("this synthetic source is unbounded and has no length; give `patients` for a finite pool")
        return self.patients * self.records_per_patient

    def __getitem__(self, index: int) -> np.ndarray:
        """Returns the record at `index` as int16 `(samples, 12)`, 1 µV per count (fitted tiers: 1000 per deviation)."""
        return self.read(np.array([index]))[0]

    def read(self, indices: np.ndarray) -> np.ndarray:
        """Returns the records at `indices` as int16 `(len(indices), samples, 12)`.

        Raises IndexError for a negative index, or one outside the finite pool.
        """
        index = _as_indices(indices)
        if self.patients is not None and index.size and int(index.max()) >= len(self):
            raise IndexError(f"record {int(index.max())} of a synthetic pool of {len(self)} records")
        blocks, inverse, rows = split_indices(index)
        rendered = [future.result() for future in self._futures(blocks)]
        return _gather(rendered, inverse, rows, self.sample_rate_hz * self.seconds, np.int16)

    def _block(self, block: int) -> np.ndarray:
        draft = draw_block(self.seed, block, self.made_by, self.seconds, self.records_per_patient)
        return record_block(draft, self.made_by, self.fitted, self.sample_rate_hz, self.seconds)

    def _futures(self, blocks: list[int]) -> list[concurrent.futures.Future[np.ndarray]]:
        """The blocks' futures, each rendered at most once while it is cached, by whichever thread asks first."""
        futures = []
        with self._lock:
            for block in blocks:
                known = self._blocks.get(block)
                if known is None or (known.done() and known.exception() is not None):
                    self._blocks[block] = on_host(self._block, block)
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


def split_indices(indices: np.ndarray) -> tuple[list[int], np.ndarray, np.ndarray]:
    """The distinct blocks that hold `index`, and for each index its place among them and its row inside."""
    index = _as_indices(indices)
    blocks, inverse = np.unique(index // np.uint64(BLOCK_RECORDS), return_inverse=True)
    return [int(block) for block in blocks], inverse, (index % np.uint64(BLOCK_RECORDS)).astype(np.intp)


def _gather(
    blocks: list[np.ndarray], inverse: np.ndarray, rows: np.ndarray, samples: int, dtype: type[np.generic]
) -> np.ndarray:
    out = np.empty((len(rows), samples, len(LEADS)), dtype)
    for place, block in enumerate(blocks):
        out[inverse == place] = block[rows[inverse == place]]
    return out


declare("source", vars(), "BLOCK_RECORDS RENDER_RATE_HZ GUARD_SAMPLES RATES_HZ SECONDS SECONDS_OF_CONDITIONS PUBLISHED")
