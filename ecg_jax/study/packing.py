"""Which trunks train together: packs of one shape, recorded in the store before they start.

A pack that is recorded is rebuilt by every later start, whatever the machine would choose: a run goes on bit for bit
in the pack it began in.
"""

from __future__ import annotations

import collections
import concurrent.futures
import dataclasses
import functools
from collections.abc import Callable, Hashable, Sequence

import jax

from ecg_jax.codec import fingerprint
from ecg_jax.config import DataConfig, RunConfig
from ecg_jax.distributed.agreement import broadcast_from_primary, is_primary
from ecg_jax.files.whole_file import write_json
from ecg_jax.scaling.cost import trunks
from ecg_jax.scaling.flops import training_bytes
from ecg_jax.store.layout import Store
from ecg_jax.train.timing import seconds_per_member

#: Of an accelerator's memory, what a pack may take; and how much cheaper a pack of so many times the size must make a
#: run. Every size that is tried costs the compilation of a program.
MEMORY_SHARE, GROWTH, WORTH = 0.6, 4, 1.2
MOST_MEMBERS = 64
#: Threads that record packs.
WRITERS = 32


@dataclasses.dataclass(frozen=True)
class Pack:
    """Trunks that train together: for every member, the runs that branch from it, by budget."""

    members: tuple[tuple[RunConfig, ...], ...]

    @functools.cached_property
    def pack_id(self) -> str:
        """The fingerprint of the members, in their order."""
        return fingerprint([runs[0].trunk_id for runs in self.members])

    @property
    def shape(self) -> RunConfig:
        """A run that stands for what all members share."""
        return self.members[0][-1]

    @property
    def runs(self) -> list[RunConfig]:
        """All runs of all members."""
        return [run for runs in self.members for run in runs]

    @property
    def steps(self) -> int:
        """Train steps of the pack: of its trunks, and of a cool-down per budget."""
        return max(run.branch_step for run in self.runs) + sum(
            steps - branch for steps, branch in {(run.budget_steps, run.branch_step) for run in self.runs}
        )


def shape_of(runs: Sequence[RunConfig]) -> Hashable:
    """What trunks must share to be packed: model, optimiser, objective, batch, schedule and branch points."""
    c = runs[0]
    neutral = dataclasses.replace(c.optim, learning_rate=1.0, weight_decay=0.0)
    shared = (c.model, neutral, c.objective, c.mask_ratio, c.batch_records, c.response, c.data.sample_rate_hz)
    return *shared, tuple(sorted(run.budget_records for run in runs))


def plan(
    store: Store, targets: Sequence[RunConfig], size_of: Callable[[RunConfig], int], new_shapes: int | None = None
) -> list[Pack]:
    """The packs of a study's targets, in their order: those on record, and new ones of `size_of(run)` members.

    New ones are recorded before this returns, at most those of `new_shapes` shapes, first things first, where asking
    for a size takes long. The first process calls it under the ownership of `store.packs`.
    """
    groups = {runs[0].trunk_id: tuple(sorted(runs, key=lambda c: c.budget_records)) for runs in trunks(targets)}
    packs, packed = [], set()
    for members in _recorded(store):
        packs.append(Pack(tuple(groups.get(member.trunk_id, (member,)) for member in members)))
        packed |= {member.trunk_id for member in members}
    shapes: dict[Hashable, list[tuple[RunConfig, ...]]] = {}
    for trunk_id, runs in groups.items():
        if trunk_id not in packed:
            shapes.setdefault(shape_of(runs), []).append(runs)
    made = []
    for alike in list(shapes.values())[:new_shapes]:
        size = min(size_of(alike[0][-1]), len(alike)) if len(alike) > 1 else 1
        for start in range(0, len(alike), size):
            made.append(Pack(tuple(alike[start : start + size])))
    if is_primary():
        _record(store, made)
    packs += made
    order = {trunk_id: number for number, trunk_id in enumerate(groups)}
    wanted = [pack for pack in packs if any(run.trunk_id in order for run in pack.runs)]
    return sorted(wanted, key=lambda pack: min(order.get(run.trunk_id, len(order)) for run in pack.runs))


def _recorded(store: Store) -> list[list[RunConfig]]:
    """The trunks of all packs on record, as the first process sees them."""
    packs = [members for _, members in store.recorded_packs()]
    if jax.process_count() == 1:
        return packs
    trees = broadcast_from_primary([[member.stored() for member in members] for members in packs])
    return [[RunConfig.from_json(tree) for tree in pack] for pack in trees]


def _record(store: Store, packs: Sequence[Pack]) -> None:
    def write(pack: Pack) -> None:
        members = [runs[-1].stored() for runs in pack.members]
        write_json(store.pack(pack.pack_id) / "pack.json", {"size": len(members), "members": members})

    # A disk takes milliseconds to say that a file lies on it, and says so of many at once.
    with concurrent.futures.ThreadPoolExecutor(WRITERS) as writers:
        collections.deque(writers.map(write, packs), maxlen=0)  # raises what a writer raised


def is_measured() -> bool:
    """Whether the best size of a pack has to be measured here. One run fills the cores of a CPU."""
    return jax.default_backend() != "cpu"


def measured_size(config: RunConfig) -> int:
    """How many runs of a shape train together fastest on the default device. Needs a mesh in force.

    The pack grows while that makes each run a good deal cheaper and its memory lasts. One on a CPU.
    """
    if not is_measured():
        return 1
    # Of a shape, only what a step is made of costs time.
    some = DataConfig(0.0, "", "")
    return _measured_size(
        dataclasses.replace(config, data=some, budget_records=8 * config.batch_records, seed=0, response="")
    )


@functools.lru_cache(maxsize=256)
def _measured_size(config: RunConfig) -> int:
    stats = jax.local_devices()[0].memory_stats() or {}
    room = broadcast_from_primary(MEMORY_SHARE * stats.get("bytes_limit", 0))
    size, cost = 1, broadcast_from_primary(seconds_per_member(config, 1))
    while GROWTH * size <= MOST_MEMBERS and GROWTH * size * training_bytes(config.model, config.batch_records) < room:
        larger = broadcast_from_primary(seconds_per_member(config, GROWTH * size))
        if cost / larger < WORTH:
            break
        size, cost = GROWTH * size, larger
    return size
