"""Doing a pack: its trunks at a stable rate, then, from saved branch points, the cool-downs of its runs.

Each run is evaluated on the frozen records and gets its record, last. Killed at any moment and started again, a pack
goes on from its last checkpoint and ends with the same numbers. A member whose loss is no longer finite stops alone.
"""

from __future__ import annotations

from ecg_jax.distributed.agreement import broadcast_from_primary, is_primary
from ecg_jax.distributed.mesh import check_batch
from ecg_jax.evaluate.response import Response, check_held_out, check_response
from ecg_jax.files.lease import Ownership
from ecg_jax.files.whole_file import write_json
from ecg_jax.store.layout import Store
from ecg_jax.study.branch_points import BranchPoints
from ecg_jax.study.cool_down import cool_down
from ecg_jax.study.hooks import NO_HOOKS, Hooks
from ecg_jax.study.members import Members
from ecg_jax.study.packing import Pack
from ecg_jax.study.trunk import set_aside_unlogged, train_trunks
from ecg_jax.train.checkpoint import Checkpoints
from ecg_jax.train.input_pipeline import Placement
from ecg_jax.train.training_data import TrainingData, check_information


def run_pack(
    store: Store,
    pack: Pack,
    data: TrainingData,
    response: Response,
    owner: Ownership | None,
    *,
    placement: Placement = Placement.HOST,
    hooks: Hooks = NO_HOOKS,
) -> None:
    """Does every run of a pack that is not done yet. Needs a mesh in force and, in the first process, which alone
    writes and decides, the ownership of the pack's folder.

    A run whose loss becomes non-finite, and those of its trunk that would branch later, are recorded as diverged. Runs
    that `hooks.keep` asks for, and that did not diverge, leave their encoder. Raises StoppedError when `hooks.stop`
    asked to.
    """
    if broadcast_from_primary(all(store.is_done(run) for run in pack.runs)):
        return
    check_batch(pack.shape.batch_records)
    check_held_out(data.real, data.synthetic, response)
    for runs in pack.members:
        check_information(runs[-1], data)
        check_response(runs[-1], response)
        if is_primary():
            write_json(store.trunk(runs[-1]) / "config.json", runs[-1].stored())
    with Checkpoints(store.checkpoints(pack.pack_id)) as checkpoints:
        members = Members(store, pack, data, response, owner, placement, hooks)
        _run_phases(members, BranchPoints(checkpoints, members.like, members.check_owner))


def _run_phases(members: Members, branch_points: BranchPoints) -> None:
    """Trains the trunks to the branch points that are wanting, then cools down budget after budget."""
    set_aside_unlogged(members, branch_points)
    while left := members.runs_left():
        steps = {config.branch_step for _, config in left}
        if wanting := broadcast_from_primary(sorted(steps - branch_points.steps)):
            train_trunks(members, branch_points, wanting)
        for budget in sorted({config.budget_records for _, config in left}):
            runs = [(k, config) for k, config in left if config.budget_records == budget]
            state = branch_points.at(runs[0][1].branch_step)
            if state is None:
                break  # it proved damaged: the trunk goes there once more
            cool_down(members, branch_points, runs, state)
            branch_points.keep({config.branch_step for _, config in members.runs_left()})
