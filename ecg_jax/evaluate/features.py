"""What an encoder makes of records: one row of features per record, kept, whoever trained the encoder.

An `Extractor` is what is evaluated. Ours come from a folder (`of_encoder`); a foreign model comes through an adapter, a
Python file of two functions (`of_adapter`):

    def load(path): ...                                   # whatever the model is
    def features(model, ecg, rate, leads): ...            # (records, samples, leads) float32 -> (records, width)
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.util
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import jax
import numpy as np
from scipy import signal

from ecg_jax import models
from ecg_jax.codec import fingerprint
from ecg_jax.config import RunConfig
from ecg_jax.data.ecg import LEADS, RecordPool, check_unsealed, normalise
from ecg_jax.distributed.mesh import make_mesh
from ecg_jax.encoder import Encoder, load_weights
from ecg_jax.files.whole_file import whole_file

#: Records that an extractor is given at a time; a multiple of what an encoder takes at once.
BATCH_RECORDS = 256

#: Int16 records `(B, samples, 12)` to what is made of them, `(B, …)`.
Compute = Callable[[np.ndarray], np.ndarray]


@dataclasses.dataclass(frozen=True)
class Extractor:
    """What is evaluated: a name for tables, `identity` (a hash of all that features depend on beside the records), and
    the functions.

    `features` gives `(B, D)` of int16 records `(B, samples, 12)`; `tokens`, where the model has any, `(B, L, D)`.
    `sample_rate_hz` is the rate that it takes, None where it takes any, and `samples` the length. `encoder` is there
    for models of our own.
    """

    name: str
    identity: str
    features: Compute
    tokens: Compute | None = None
    sample_rate_hz: int | None = None
    samples: int | None = None
    encoder: Encoder | None = None


def of_encoder(folder: Path, *, leads: Sequence[str] = LEADS) -> Extractor:
    """A pretrained encoder that a study kept, mean-pooled over the tokens of its last block; it sees `leads` alone.

    Raises FileNotFoundError or ValueError as `load_encoder` does, and for leads that it does not read.
    """
    config, params = load_weights(Path(folder))
    digest = hashlib.sha256()
    for path, leaf in jax.tree.leaves_with_path(params):
        digest.update(jax.tree_util.keystr(path).encode() + np.asarray(leaf).tobytes())
    return _of_weights(config.run_id, fingerprint([config.stored(), digest.hexdigest()]), config, params, leads)


def of_random(config: RunConfig, seed: int, *, leads: Sequence[str] = LEADS) -> Extractor:
    """The architecture of `config` as it is initialised from `seed`, never trained: what features owe to no data."""
    with jax.set_mesh(make_mesh(jax.local_devices())):
        params = models.build(config.model).init(jax.random.key(seed))
    name = f"random {config.model.width}x{config.model.depth}, seed {seed}"
    return _of_weights(name, fingerprint([config.stored(), "random", seed]), config, params, leads)


def _of_weights(name: str, identity: str, config: RunConfig, params: Any, leads: Sequence[str]) -> Extractor:
    encoder = Encoder(config, params)
    kept = [LEADS.index(lead) for lead in leads] if tuple(leads) != LEADS else None

    def some(ecg: np.ndarray) -> np.ndarray:
        return ecg if kept is None else ecg[..., kept]

    return Extractor(
        name=name,
        identity=identity if kept is None else fingerprint([identity, list(leads)]),
        features=lambda ecg: encoder(some(ecg), leads=leads),
        tokens=lambda ecg: encoder.tokens(some(ecg), leads=leads),
        sample_rate_hz=config.data.sample_rate_hz,
        samples=config.model.samples,
        encoder=encoder,
    )


def of_adapter(file: Path, path: Path, *, sample_rate_hz: int, leads: Sequence[str] = LEADS) -> Extractor:
    """A foreign model, by the two functions of the Python file `file`, which is run: name none that you do not trust.

    `features` gets float32 records `(records, samples, leads)`, each lead of zero mean and unit deviation, their
    rate, and the names of the leads; it raises ValueError where these are not what its model reads. Raises
    FileNotFoundError for a file or model that is not there, and ValueError for a file without the two functions.
    """
    for needed in (file, path):
        if not Path(needed).exists():
            raise FileNotFoundError(f"{needed} does not exist")
    adapter = _module(file)
    lacking = [name for name in ("load", "features") if not callable(getattr(adapter, name, None))]
    if lacking:
        raise ValueError(f"{file} lacks {' and '.join(lacking)}: an adapter has load(path) and features(model, …)")
    model, kept = adapter.load(path), [LEADS.index(lead) for lead in leads]

    def features(ecg: np.ndarray) -> np.ndarray:
        return np.asarray(adapter.features(model, normalise(ecg)[..., kept], sample_rate_hz, tuple(leads)))

    identity = fingerprint([_digest(file), _digest(path), sample_rate_hz, list(leads)])
    return Extractor(f"{file.stem} {path.stem}", identity, features, sample_rate_hz=sample_rate_hz)


def extract(
    extractor: Extractor, pool: RecordPool, *, cache: Path | None = None, resample: bool = False, tokens: bool = False
) -> np.ndarray:
    """Features of every record of `pool`, `(N, D)` float32, or its tokens, `(N, L, D)`; kept below `cache`, where there
    is one, by what they depend on.

    Records of another rate than the extractor's are resampled only when told. Raises ValueError for sealed records,
    another rate or length, and features that are not one row per record, not finite, or the same in all records.
    """
    check_unsealed(pool)
    compute = extractor.tokens if tokens else extractor.features
    if compute is None:
        raise ValueError(f"{extractor.name} gives features of records only, none of tokens")
    is_resampled = _check_rate(extractor, pool, resample)
    kept = None if cache is None else cache / f"{_key(extractor, pool, tokens)}.npy"
    if kept is not None and kept.is_file():
        return _checked(extractor, np.load(kept, allow_pickle=False), len(pool))
    parts = []
    for start in range(0, len(pool), BATCH_RECORDS):
        ecg = pool.read(np.arange(start, min(start + BATCH_RECORDS, len(pool))))
        if is_resampled:
            ecg = _resampled(ecg, pool.sample_rate_hz, extractor.sample_rate_hz or pool.sample_rate_hz)
        made = np.asarray(compute(ecg))
        if len(made) != len(ecg):
            raise ValueError(f"{extractor.name} returned {len(made)} rows of features for {len(ecg)} records")
        parts.append(made.astype(np.float32, copy=False))
    widths = {part.shape[1:] for part in parts}
    if len(widths) != 1:
        raise ValueError(f"{extractor.name} returned features of several widths: {sorted(widths)}")
    found = _checked(extractor, np.concatenate(parts), len(pool))
    if kept is not None:
        kept.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(kept) as path, path.open("wb") as file:
            np.save(file, found, allow_pickle=False)
    return found


def _check_rate(extractor: Extractor, pool: RecordPool, resample: bool) -> bool:
    """Whether records must be resampled. Raises ValueError where they must and may not, or are of another length."""
    rate_hz = extractor.sample_rate_hz
    is_other = rate_hz not in (None, pool.sample_rate_hz)
    if is_other and not resample:
        raise ValueError(
            f"{extractor.name} reads {rate_hz} Hz, the records are at {pool.sample_rate_hz} Hz: build them at "
            f"{rate_hz} Hz (ecg-jax build --rate {rate_hz}), or ask for resampling (--resample)"
        )
    samples = pool.ecg.shape[1] * (rate_hz or pool.sample_rate_hz) // pool.sample_rate_hz
    if extractor.samples not in (None, samples):
        raise ValueError(f"{extractor.name} reads {extractor.samples} samples, the records have {samples}")
    return is_other


def _resampled(ecg: np.ndarray, from_hz: int, to_hz: int) -> np.ndarray:
    shared = math.gcd(from_hz, to_hz)
    as_float = ecg.astype(np.float32)
    return signal.resample_poly(as_float, to_hz // shared, from_hz // shared, axis=1, padtype="line").astype(np.float32)


def _checked(extractor: Extractor, found: np.ndarray, records: int) -> np.ndarray:
    if found.ndim < 2 or len(found) != records or not found.shape[-1]:
        raise ValueError(f"{extractor.name} returned features of shape {found.shape} for {records} records")
    bad = ~np.isfinite(found).reshape(records, -1).all(axis=1)
    if bad.any():
        raise ValueError(f"{extractor.name}: features of {int(bad.sum())} of {records} records are no finite numbers")
    if records > 1 and (found == found[:1]).all():
        raise ValueError(f"{extractor.name} gives all {records} records the same features")
    return found


def _key(extractor: Extractor, pool: RecordPool, tokens: bool) -> str:
    digest = hashlib.sha256(f"{extractor.identity} {pool.sample_rate_hz} {tokens}\n".encode())
    digest.update("\0".join(map(str, pool.record_id)).encode())
    for start in range(0, len(pool), BATCH_RECORDS):
        digest.update(np.ascontiguousarray(pool.read(np.arange(start, min(start + BATCH_RECORDS, len(pool))))).data)
    return digest.hexdigest()[:24]


def _digest(path: Path) -> str:
    """A hash of a file, or of all files of a folder with their names."""
    digest = hashlib.sha256()
    for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
        if file.is_file():
            digest.update(f"{file.relative_to(path.parent)}\n".encode())
            with file.open("rb") as content:
                while block := content.read(1 << 20):
                    digest.update(block)
    return digest.hexdigest()


def _module(file: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"adapter_{file.stem}", file)
    if spec is None or spec.loader is None:
        raise ValueError(f"{file} is no Python file: an adapter ends in .py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
