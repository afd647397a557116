"""Architectures as pure `(init, apply)` pairs."""

from ecg_jax.config import Architecture, ModelConfig
from ecg_jax.models.functional import Model, Params
from ecg_jax.models.transformer import transformer

__all__ = ["Model", "Params", "build"]


def build(config: ModelConfig) -> Model:
    """The model of `config` as pure functions. Needs a mesh in force."""
    match config.architecture:
        case Architecture.TRANSFORMER:
            return transformer(config)
