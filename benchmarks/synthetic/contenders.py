"""The contenders of the speed benchmark: peers, every tier, its stages, and the limit that memory sets."""

from __future__ import annotations

import contextlib
import functools
import itertools
from collections.abc import Callable, Iterator

import jax
import numpy as np

from benchmarks.harness.timing import Contender
from benchmarks.synthetic import peers
from ecg_jax.data.synthetic.annotate import annotation
from ecg_jax.data.synthetic.physiology.sampling import Grid
from ecg_jax.data.synthetic.render import source
from ecg_jax.data.synthetic.render.generator import Fitted
from ecg_jax.data.synthetic.render.source import BLOCK_RECORDS, SyntheticSource
from ecg_jax.data.synthetic.render.tiers import Recipe
from experiments.protocol.neurokit import neurokit_record

SECONDS = 10
LEADS = 12
RK4_RECORDS = 256
MULTILEADS, ECGSYN, RK4 = "NeuroKit2 multileads", "NeuroKit2 ecgsyn, 1 lead", "NumPy RK4, 256 at once"
FIDUCIALS, TRAINING, WRITE = "T1d + fiducials", "T1d as training reads it", "writing zeros (limit)"
#: The blocks that are filled in turn exceed every cache.
_WRITTEN_BYTES = 256 * 2**20
#: Calls of a stage between two waits: within a record the host waits once for all stages, not for each.
_IN_FLIGHT = 8


def neurokit(name: str, sample_rate_hz: int) -> Contender:
    """One record a call, the generator's own defaults but for the seed."""
    method = "multileads" if name == MULTILEADS else "ecgsyn"
    seeds = itertools.count()
    run = lambda: neurokit_record(method, sample_rate_hz, SECONDS, 70, 1, next(seeds))  # noqa: E731
    return Contender(name, sample_rate_hz, 1, run)


def runge_kutta(sample_rate_hz: int) -> Contender:
    """256 records of 12 leads a call."""
    rng = np.random.default_rng(0)
    rr_s = rng.uniform(0.6, 1.2, RK4_RECORDS)
    gain_LxW = rng.normal(1.0, 0.3, (LEADS, len(peers.AMPLITUDE)))
    return Contender(
        RK4, sample_rate_hz, RK4_RECORDS, lambda: peers.ecgsyn_rk4(rr_s, gain_LxW, sample_rate_hz, SECONDS)
    )


def tier(name: str, made_by: Recipe, fitted: Fitted | None, sample_rate_hz: int) -> Contender:
    """A new block of 32 records a call, twelve leads in millivolts as a NumPy array: what `source.render` does."""
    blocks, grid = itertools.count(), Grid(sample_rate_hz, SECONDS)

    def run() -> np.ndarray:
        draft = source.draw_block(0, next(blocks), made_by, SECONDS)
        return np.asarray(source.all_leads(source.render_draft(draft, made_by, fitted, grid)[0]))

    return Contender(name, sample_rate_hz, BLOCK_RECORDS, run)


def annotated(made_by: Recipe, sample_rate_hz: int) -> Contender:
    """As `tier`, with onset, peak and end of every wave and the kind of every beat."""
    blocks, grid = itertools.count(), Grid(sample_rate_hz, SECONDS)

    def run() -> tuple[np.ndarray, ...]:
        draft = source.draw_block(0, next(blocks), made_by, SECONDS)
        leads = source.all_leads(source.render_draft(draft, made_by, None, grid)[0])
        fiducials_s = annotation._fiducials(draft.heart)
        return np.asarray(leads), np.asarray(fiducials_s), np.asarray(draft.heart.trains.beat)

    return Contender(FIDUCIALS, sample_rate_hz, BLOCK_RECORDS, run)


def training(made_by: Recipe) -> Contender:
    """New records through `SyntheticSource.read`: rendered at 250 Hz, filtered, resampled to 100 Hz, int16."""
    unread, records = itertools.count(), SyntheticSource(0, made_by, cache_records=BLOCK_RECORDS)

    def run() -> np.ndarray:
        return records.read(next(unread) * BLOCK_RECORDS + np.arange(BLOCK_RECORDS))

    return Contender(TRAINING, 100, BLOCK_RECORDS, run)


def write_limit(sample_rate_hz: int) -> Contender:
    """Fills a block's bytes in memory that no cache holds."""
    block = (BLOCK_RECORDS, SECONDS * sample_rate_hz, LEADS)
    count = -(-_WRITTEN_BYTES // (4 * int(np.prod(block))))
    memory, turn = np.ones((count, *block), np.float32), itertools.count()
    return Contender(WRITE, sample_rate_hz, BLOCK_RECORDS, lambda: memory[next(turn) % count].fill(0.0))


def stages(made_by: Recipe, sample_rate_hz: int) -> list[Contender]:
    """The compiled stages of rendering one block, in their order, each run again on what it was given; and fiducials.

    Which they are is found by watching one block being rendered, so that the table keeps to the code.
    """
    grid = Grid(sample_rate_hz, SECONDS)
    with _watched() as calls:
        draft = source.draw_block(0, 0, made_by, SECONDS)
        source.all_leads(source.render_draft(draft, made_by, None, grid)[0])
    calls.append(("fiducials", lambda: annotation._fiducials(draft.heart)))

    def in_flight(call: Callable[[], object]) -> Callable[[], object]:
        return lambda: jax.block_until_ready([call() for _ in range(_IN_FLIGHT)])

    return [
        Contender(f"stage {name}", sample_rate_hz, _IN_FLIGHT * BLOCK_RECORDS, in_flight(call)) for name, call in calls
    ]


@contextlib.contextmanager
def _watched() -> Iterator[list[tuple[str, Callable[[], object]]]]:
    """Lists the calls of `source`'s compiled functions, by name, while it lasts."""
    compiled = {name: value for name, value in vars(source).items() if isinstance(value, jax.stages.Wrapped)}
    calls: list[tuple[str, Callable[[], object]]] = []

    def watch(name: str, stage: Callable[..., object]) -> Callable[..., object]:
        @functools.wraps(stage)
        def watched(*arguments: object, **named: object) -> object:
            calls.append((name.removeprefix("_"), functools.partial(stage, *arguments, **named)))
            return stage(*arguments, **named)

        return watched

    try:
        for name, stage in compiled.items():
            setattr(source, name, watch(name, stage))
        yield calls
    finally:
        for name, stage in compiled.items():
            setattr(source, name, stage)
