"""A small config, changed as a test wants it."""

from ecg_jax.config import DataConfig, OptimConfig, RunConfig
from ecg_jax.scaling import ladder
from ecg_jax.study import sweep


def make_config(**changes) -> RunConfig:
    model = ladder.model_config(10_000)
    config = RunConfig(
        study="test",
        model=model,
        data=DataConfig(real_fraction=0.5, real_source="a", synthetic_source="b"),
        optim=OptimConfig(learning_rate=1e-3),
        budget_records=1024,
        batch_records=32,
    )
    return sweep.replace(config, changes)
