"""Learning rates by step: the trunk's warm-up and plateau, a branch's cool-down."""

from __future__ import annotations

from ecg_jax.config import RunConfig


def trunk_rate(config: RunConfig, step: int) -> float:
    """The learning rate of the trunk at `step`: a linear rise over the warm-up, then constant."""
    return config.optim.learning_rate * min(1.0, (step + 1) / max(1, config.warmup_steps))


def branch_rate(config: RunConfig, step: int) -> float:
    """The learning rate at `step` of a run, linear to zero from its branch point to the end of its budget."""
    remaining = (config.budget_steps - step) / (config.budget_steps - config.branch_step + 1)
    return trunk_rate(config, step) * min(1.0, remaining)
