"""Pretraining of ECG foundation models on mixed synthetic and real recordings, and the axes of its scaling laws.

What most users call is found here, and loaded when it is first used:

    from ecg_jax import SyntheticSource, load_encoder
    ecg = SyntheticSource(seed=0).read(range(8))        # int16 (records, samples, 12)
    features = load_encoder("out/encoder")(ecg)         # float32 (records, width)
"""

from __future__ import annotations

import importlib
import sys
import typing

from ecg_jax.moved import Moved
from ecg_jax.terminal.command import quiet_while_loading

if typing.TYPE_CHECKING:
    from ecg_jax.config import DataConfig as DataConfig
    from ecg_jax.config import ModelConfig as ModelConfig
    from ecg_jax.config import OptimConfig as OptimConfig
    from ecg_jax.config import RunConfig as RunConfig
    from ecg_jax.data.ecg import LEADS as LEADS
    from ecg_jax.data.ecg import RecordPool as RecordPool
    from ecg_jax.data.ecg import Source as Source
    from ecg_jax.data.ecg import join as join
    from ecg_jax.data.ecg import normalise as normalise
    from ecg_jax.data.ecg_plot import draw as draw
    from ecg_jax.data.mixture import BatchIds as BatchIds
    from ecg_jax.data.mixture import Mixture as Mixture
    from ecg_jax.data.mixture import batch_ids as batch_ids
    from ecg_jax.data.mixture import counts as counts
    from ecg_jax.data.mixture import read_batch as read_batch
    from ecg_jax.data.mixture import record_ids as record_ids
    from ecg_jax.data.storage.shards import open_shards as open_shards
    from ecg_jax.data.synthetic import PREVALENCE as PREVALENCE
    from ecg_jax.data.synthetic import UNIFORM as UNIFORM
    from ecg_jax.data.synthetic import ConditionMix as ConditionMix
    from ecg_jax.data.synthetic import Morphology as Morphology
    from ecg_jax.data.synthetic import Recipe as Recipe
    from ecg_jax.data.synthetic import Rhythm as Rhythm
    from ecg_jax.data.synthetic import SyntheticSource as SyntheticSource
    from ecg_jax.data.synthetic import Tier as Tier
    from ecg_jax.data.synthetic import only as only
    from ecg_jax.data.synthetic import recipe as recipe
    from ecg_jax.data.synthetic import render as render
    from ecg_jax.encoder import Encoder as Encoder
    from ecg_jax.encoder import load_encoder as load_encoder
    from ecg_jax.scaling import ladder as ladder
    from ecg_jax.store.tables import Run as Run
    from ecg_jax.store.tables import load_run as load_run

    __version__: str

#: Where the names stand that are found here: importing the package alone loads none of them, and no JAX.
_HOMES = {
    "config": ("DataConfig", "ModelConfig", "OptimConfig", "RunConfig"),
    "data.ecg": ("LEADS", "RecordPool", "Source", "join", "normalise"),
    "data.ecg_plot": ("draw",),
    "data.mixture": ("BatchIds", "Mixture", "batch_ids", "counts", "read_batch", "record_ids"),
    "data.storage.shards": ("open_shards",),
    "data.synthetic": (
        *("PREVALENCE", "UNIFORM", "ConditionMix", "Morphology", "Recipe", "Rhythm", "SyntheticSource", "Tier"),
        *("only", "recipe", "render"),
    ),
    "encoder": ("Encoder", "load_encoder"),
    "store.tables": ("Run", "load_run"),
}
_FACE = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [*_FACE, "ladder"]

quiet_while_loading()
sys.meta_path.append(Moved())


def __getattr__(name: str) -> typing.Any:
    if name == "__version__":
        return _version()
    if name == "ladder":
        return importlib.import_module("ecg_jax.scaling.ladder")
    if name in _FACE:
        return getattr(importlib.import_module(f"ecg_jax.{_FACE[name]}"), name)
    raise AttributeError(f"module 'ecg_jax' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, "__version__"})


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("ecg-jax")
    except PackageNotFoundError:  # a checkout that was never installed
        return "0+checkout"
