"""Encoders to take away: a folder of weights, config and model card, and features for NumPy arrays from it.

    encoder = ecg_jax.load_encoder(folder)
    features = encoder(ecg)                          # (records, width)
    features = encoder(ecg, leads=("I", "II"))       # fewer leads, or another order

    FOLDER/model.safetensors    every parameter, float32, named by its path in the model: blocks.0.up.kernel
    FOLDER/config.json          format, version, and the config of the run
    FOLDER/README.md            the model card

Only these names are ever read, and nothing that is read can name a file or run code.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec as P

from ecg_jax import models
from ecg_jax.config import ModelConfig, RunConfig, Tokens
from ecg_jax.data.ecg import INDEPENDENT_LEADS, LEADS, normalise
from ecg_jax.data.lead_names import lead_of
from ecg_jax.data.preprocess import flat_leads
from ecg_jax.distributed.mesh import data_devices, make_mesh, place_batch
from ecg_jax.extras import needs
from ecg_jax.files.whole_file import read_json, write_json, write_text
from ecg_jax.files.whole_folder import whole_folder
from ecg_jax.models import Params
from ecg_jax.notebook import facts_as_html
from ecg_jax.objectives import masked

with needs("train"):
    import safetensors
    import safetensors.numpy

FORMAT, VERSION = "ecg-jax encoder", 1
TENSORS, CONFIG, CARD = "model.safetensors", "config.json", "README.md"
#: Records per call of the model at most; fewer are padded to a power of two, so that few shapes are compiled.
BATCH_RECORDS = 64
#: Beyond these no config and no size is believed before anything is read or built.
CONFIG_BYTES, LARGEST = 1 << 20, 1 << 24
#: How many tensors an error names.
NAMED = 5


class Encoder:
    """A pretrained model as a function from NumPy arrays to features.

    Records are `(samples, leads)` or `(records, samples, leads)`, int16 or any other numbers, in any unit: every lead
    of every record is scaled to zero mean and unit deviation first. They hold `config.model.samples` samples at
    `config.data.sample_rate_hz`, band-passed as in training (`data.preprocess`) for the best features. Runs on all
    devices of this process and sets its own mesh: the caller needs none.

    `leads` names the leads of the array in its order, as any file may (`data.lead_names`: "aVR", "AVR", "Lead aVR"). A
    lead that is not named, or is flat, before or after any filter (`preprocess.flat_leads`), is invisible to the model.
    In training the six limb leads were hidden together only: features of some without the others lie outside what the
    model has learnt, and any two of them give the rest (III = II - I, aVR = -(I + II) / 2, ...).
    """

    def __init__(self, config: RunConfig, params: Params):
        self.config = config
        self._mesh = make_mesh(jax.local_devices())
        with jax.set_mesh(self._mesh):
            self._params = jax.device_put(params, jax.NamedSharding(self._mesh, P()))
            model = models.build(config.model)

        def features(of: Any) -> Any:
            def compute(params: Params, ecg_BxSxE: jax.Array) -> jax.Array:
                x_BxSxE = normalise(ecg_BxSxE)
                visible_BxTxE = masked.with_nothing_hidden(x_BxSxE, config.model.patches)
                return of(params, x_BxSxE, visible_BxTxE).astype(jnp.float32)

            return jax.jit(compute)

        self._pooled, self._tokens = features(model.pooled), features(model.tokens)

    def __repr__(self) -> str:
        c = self.config
        records = f"({c.model.samples}, {len(LEADS)}) at {c.data.sample_rate_hz} Hz"
        return f"Encoder(run {c.run_id}: records {records} -> {c.model.width} features)"

    def _repr_html_(self) -> str:
        return facts_as_html(repr(self), dataclasses.asdict(self.config.model))

    def __call__(self, ecg: np.ndarray, *, leads: str | Sequence[str] = LEADS) -> np.ndarray:
        """Features per record, `(records, width)` float32, the mean over its tokens; one record counts as a batch of 1.

        Raises ValueError for an unknown lead, or an array of another shape, type or length than the encoder takes.
        """
        return self._batched(self._pooled, ecg, leads, ())

    def tokens(self, ecg: np.ndarray, *, leads: str | Sequence[str] = LEADS) -> np.ndarray:
        """Features per token, `(records, tokens, width)` float32: a token is a patch of time, or of a lead and time.

        Raises as `__call__`.
        """
        return self._batched(self._tokens, ecg, leads, (self.config.model.tokens_per_record,))

    def _batched(
        self, features: Any, ecg: np.ndarray, leads: str | Sequence[str], per_record: tuple[int, ...]
    ) -> np.ndarray:
        """Calls `features` batch by batch; what pads the last one is dropped."""
        ecg, leads = np.asarray(ecg), _meant((leads,) if isinstance(leads, str) else tuple(leads))
        _check(ecg, leads, self.config)
        ecg_RxSxF = ecg[None] if ecg.ndim == 2 else ecg
        records = len(ecg_RxSxF)
        found = np.empty((records, *per_record, self.config.model.width), np.float32)
        with jax.set_mesh(self._mesh):
            batch = min(BATCH_RECORDS, 1 << max(records - 1, 0).bit_length())
            batch = -(-batch // data_devices()) * data_devices()
            for start in range(0, records, batch):
                part = ecg_RxSxF[np.arange(start, start + batch) % records]
                batch_BxSxE = place_batch(_twelve(_scaled(part), leads))
                found[start : start + batch] = np.asarray(features(self._params, batch_BxSxE))[: records - start]
        return found


def _scaled(ecg_BxSxF: np.ndarray) -> np.ndarray:
    """What `normalise` can take: int16 as it is, as in training; other numbers as float32 that begin at 0 and reach to
    1 or -1 in every lead, so that no unit or offset costs precision, and are 0 in a flat one."""
    if ecg_BxSxF.dtype == np.int16:
        return ecg_BxSxF
    moved_BxSxF = ecg_BxSxF.astype(np.float64) - ecg_BxSxF[:, :1]
    flat_Bx1xF = flat_leads(ecg_BxSxF)
    peak_Bx1xF = np.abs(moved_BxSxF).max(axis=1, keepdims=True)
    return np.where(flat_Bx1xF, 0, moved_BxSxF / np.where(flat_Bx1xF, 1, peak_Bx1xF)).astype(np.float32)


def _twelve(ecg_BxSxF: np.ndarray, leads: tuple[str, ...]) -> np.ndarray:
    """All twelve leads in their order, from those named; the others are 0, which the model takes as missing."""
    ecg_BxSxE = np.zeros((*ecg_BxSxF.shape[:2], len(LEADS)), ecg_BxSxF.dtype)
    ecg_BxSxE[:, :, [LEADS.index(lead) for lead in leads]] = ecg_BxSxF
    return ecg_BxSxE


def _meant(names: tuple[str, ...]) -> tuple[str, ...]:
    """The leads that are named. Raises ValueError for a name of no lead, two of one, or none at all."""
    leads = tuple(lead for name in map(str, names) if (lead := lead_of(name)))
    if len(leads) < len(names) or len(set(leads)) < len(leads) or not leads:
        raise ValueError(f"leads = {names}: each must be one of {', '.join(LEADS)}, once, and at least one is needed")
    return leads


def _check(ecg: np.ndarray, leads: tuple[str, ...], config: RunConfig) -> None:
    """Raises ValueError, naming both sides, when the array or its leads do not fit the config."""
    if config.model.tokens is Tokens.LEAD_TIME and not set(leads) & set(INDEPENDENT_LEADS):
        raise ValueError(f"leads = {leads}: this encoder reads {', '.join(INDEPENDENT_LEADS)} only")
    if ecg.dtype.kind not in "iuf":
        raise ValueError(f"ecg is an array of {ecg.dtype}; expected numbers, int16 or float")
    samples, rate = config.model.samples, config.data.sample_rate_hz
    expected = f"({samples}, {len(leads)}) or (records, {samples}, {len(leads)})"
    if ecg.ndim not in (2, 3):
        raise ValueError(f"ecg is of shape {ecg.shape}; expected {expected}: samples, then leads")
    if ecg.shape[-1] != len(leads):
        raise ValueError(
            f"ecg of shape {ecg.shape} has {ecg.shape[-1]} leads on its last axis, leads names {len(leads)} "
            f"({', '.join(leads)}); expected {expected}"
        )
    if ecg.shape[-2] != samples:
        raise ValueError(
            f"ecg of shape {ecg.shape} has {ecg.shape[-2]} samples per lead; this encoder takes {samples}: "
            f"{samples / rate:g} s at {rate} Hz; {_remedy(ecg.shape[-2], samples, rate)}"
        )
    if ecg.dtype.kind == "f" and not np.isfinite(ecg).all():
        *record, sample, lead = (int(i) for i in np.argwhere(~np.isfinite(ecg))[0])
        raise ValueError(
            f"ecg holds {ecg[(*record, sample, lead)]} in record {record[0] if record else 0}, lead {leads[lead]}, "
            f"sample {sample}; expected finite numbers"
        )


def _remedy(given: int, samples: int, rate_hz: int) -> str:
    """What to do with `given` samples where `samples` at `rate_hz` are wanted."""
    other_hz = given * rate_hz / samples
    if other_hz.is_integer():
        return (
            f"if these are {samples / rate_hz:g} s at {other_hz:g} Hz, ecg_jax.data.preprocess.apply_chain(ecg_mv, "
            f"{other_hz:g}, {rate_hz}) filters and resamples them"
        )
    return f"cut to {samples / rate_hz:g} s, then ecg_jax.data.preprocess.apply_chain(ecg_mv, rate, {rate_hz})"


def export_encoder(folder: Path, config: RunConfig, params: Params, card: str) -> None:
    """Writes weights, config and card (Markdown) of a trained model to `folder`, which appears whole or not at all.

    An encoder that is there already is replaced; raises FileExistsError when the folder holds anything else.
    """
    folder = Path(folder)
    others = {path.name for path in folder.iterdir()} - {TENSORS, CONFIG, CARD} if folder.exists() else set()
    if others:
        raise FileExistsError(f"{folder} holds {', '.join(sorted(others))}, which are no part of an encoder")
    tensors = {name: np.asarray(leaf, np.float32) for name, leaf in _named(params).items()}
    with whole_folder(folder, replaces=True) as building:
        safetensors.numpy.save_file(tensors, building / TENSORS)
        write_json(building / CONFIG, {"format": FORMAT, "version": VERSION, "config": config.stored()})
        write_text(building / CARD, card)


def load_encoder(path: str | os.PathLike[str]) -> Encoder:
    """The encoder that a study kept in the folder `path`: `encoder(ecg)` gives features; see `Encoder`.

    Raises FileNotFoundError or ValueError for a folder without an encoder, or one that is damaged, inconsistent, or
    written by a newer version.
    """
    return Encoder(*load_weights(Path(path)))


def load_weights(folder: Path) -> tuple[RunConfig, Params]:
    """The run that an encoder is of, and all its parameters, read-out included. Raises as `load_encoder` does."""
    missing = [name for name in (TENSORS, CONFIG) if not (folder / name).is_file()]
    if missing:
        raise FileNotFoundError(
            f"{folder} is no encoder: it lacks {' and '.join(missing)}; expected a folder that a study kept, "
            f"with {TENSORS} and {CONFIG}"
        )
    config = _read_config(folder / CONFIG)
    return config, _read_params(folder / TENSORS, config)


def _read_config(path: Path) -> RunConfig:
    if path.stat().st_size > CONFIG_BYTES:
        raise ValueError(f"{path} has {path.stat().st_size:,} bytes: the config of an encoder has a few thousand")
    tree = read_json(path, of=object)
    if not isinstance(tree, dict) or tree.get("format") != FORMAT or type(tree.get("version")) is not int:
        raise ValueError(f"{path} is not the config of an encoder: it must say format {FORMAT!r} and a version")
    if tree["version"] > VERSION:
        raise ValueError(
            f"{path} is of version {tree['version']}, this ecg-jax reads up to version {VERSION}: upgrade ecg-jax"
        )
    try:
        return RunConfig.from_json(tree["config"])
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise ValueError(f"{path} holds no config of a run that this ecg-jax knows: {error}") from error


def _read_params(path: Path, config: RunConfig) -> Params:
    """The parameters, checked by name, type and shape against what the config asks for before anything is built."""
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            names = file.keys()
            slices = {name: file.get_slice(name) for name in names}
            found = {name: (part.get_dtype(), tuple(part.get_shape())) for name, part in slices.items()}
            _compare(path, found, _expected(path, config.model, len(found)))
            abstract = _abstract(config.model)
            leaves = [file.get_tensor(name) for name in _named(abstract)]
    except safetensors.SafetensorError as error:
        raise ValueError(f"{path} is not a whole safetensors file: {error}") from error
    return jax.tree.unflatten(jax.tree.structure(abstract), leaves)


def _abstract(model: ModelConfig) -> Params:
    with jax.set_mesh(make_mesh(jax.local_devices())):
        return jax.eval_shape(models.build(model).init, jax.random.key(0))


def _expected(path: Path, model: ModelConfig, tensors: int) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Type and shape of every tensor of a model, by name, from one of its blocks: building all takes time."""
    largest = max(model.width, model.samples, model.stem_samples or 1)
    if model.depth > tensors or largest > LARGEST:
        raise ValueError(
            f"{path} does not hold the tensors that {CONFIG} asks for: a model of depth {model.depth}, width "
            f"{model.width} and records of {model.samples} samples is not in its {tensors} tensors"
        )
    one = _named(_abstract(dataclasses.replace(model, depth=1)))
    first = "blocks.0."
    expected = {}
    for name, leaf in one.items():
        of = range(model.depth) if name.startswith(first) else (0,)
        for block in of:
            expected[name.replace(first, f"blocks.{block}.", 1)] = ("F32", leaf.shape)
    return expected


def _compare(path: Path, found: dict[str, Any], expected: dict[str, Any]) -> None:
    def told(tensor: tuple[str, tuple[int, ...]] | None) -> str:
        return "nothing" if tensor is None else f"{tensor[0]} {tensor[1]}"

    wrong = [name for name in sorted(found.keys() | expected.keys()) if found.get(name) != expected.get(name)]
    if wrong:
        lines = [f"{name} is {told(found.get(name))}, not {told(expected.get(name))}" for name in wrong[:NAMED]]
        more = f"; and {len(wrong) - NAMED} more" if len(wrong) > NAMED else ""
        raise ValueError(f"{path} does not hold the tensors that {CONFIG} asks for: {'; '.join(lines)}{more}")


def _named(tree: Params) -> dict[str, Any]:
    """The leaves of a parameter tree by dotted path, in the tree's order."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="."): leaf for path, leaf in leaves}
