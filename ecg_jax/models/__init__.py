"""Architectures as pure functions under one contract, `Model`."""

from ecg_jax.config import Architecture, ModelConfig
from ecg_jax.models.contract import Model, Params
from ecg_jax.models.execution import Execution, Remat, best
from ecg_jax.models.transformer import transformer

__all__ = ["Execution", "Model", "Params", "Remat", "build"]


def build(config: ModelConfig, execution: Execution | None = None) -> Model:
    """The model of `config`, carried out as suits the default backend unless told. Needs a mesh in force."""
    match config.architecture:
        case Architecture.TRANSFORMER:
            return transformer(config, execution or best(config))
