"""What runs cost: the records and FLOPs of trunks that share steps, and durations in words."""

from __future__ import annotations

from collections.abc import Sequence

from ecg_jax.config import RunConfig
from ecg_jax.scaling.flops import forward_flops_per_record, train_flops_per_record


def trunks(targets: Sequence[RunConfig]) -> list[list[RunConfig]]:
    """The targets grouped by trunk, in order of first appearance."""
    groups: dict[str, list[RunConfig]] = {}
    for target in targets:
        groups.setdefault(target.trunk_id, []).append(target)
    return list(groups.values())


def flops(targets: Sequence[RunConfig], evaluations_per_run: int) -> float:
    """FLOPs of the trunks, cool-downs and evaluations of `targets`. Curves of trunks are left out: below 1 %."""
    total = 0.0
    for group in trunks(targets):
        model = group[0].model
        total += records_trained(group) * train_flops_per_record(model)
        total += len(group) * evaluations_per_run * forward_flops_per_record(model)
    return total


def records_trained(trunk: Sequence[RunConfig]) -> int:
    """The records of the runs of one trunk, what they share counted once."""
    steps = max(run.branch_step for run in trunk) + sum(run.budget_steps - run.branch_step for run in trunk)
    return steps * trunk[0].batch_records


def duration(seconds: float) -> str:
    """Seconds as people say them."""
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.0f} s"
