"""A pool of records as one `.npz` file: what a node without Grain, TFDS or WFDB trains from."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from ecg_jax.data.ecg import LEADS, Origins, RecordPool, Simulated
from ecg_jax.data.storage import arrays
from ecg_jax.data.storage.arrays import Stored, field
from ecg_jax.files.whole_file import whole_file

FORMAT = 1
_ARRAYS = ("ecg", "record_id", "patient_id", "fold", "unit")
FASTEST_HZ = 100_000


def save_pool(path: Path, pool: RecordPool) -> None:
    """Writes a pool, whole or not at all: int16 records, their ids, patients, folds, units and labels."""
    about = {"format": FORMAT, "source": pool.source, "sample_rate_hz": pool.sample_rate_hz, "labels": pool.labels}
    held = {name: getattr(pool, name) for name in _ARRAYS}
    if pool.simulated is not None:
        about["simulated"] = pool.simulated._asdict()
    if pool.origins is not None:
        weights = pool.origins.weights
        about["origins"] = {
            "names": pool.origins.names,
            "weights": None if weights is None else list(map(str, weights)),
        }
        held["origin"] = pool.origins.of
    with whole_file(path) as temporary, temporary.open("wb") as file:
        np.savez(file, about=json.dumps(about), **held)


def load_pool(path: Path, checksums: Mapping[str, str] | None = None) -> RecordPool:
    """Reads a pool that `save_pool` wrote; its signals stay on the disk and are read from there as they are used.

    The content is compared with the archive's own checksums, and with `checksums` (of `arrays.checksums`, kept
    elsewhere) where given. Raises FileNotFoundError, and ValueError, naming what is wrong, when the file is no such
    pool, is damaged, is another one than the checksums say, or is of a newer format.
    """
    try:
        stored = arrays.stored_arrays(path)
        about = _about(stored)
        newer = field(about, "format", int, least=1) > FORMAT
        if not newer:
            _check(stored, about)
            _compare(arrays.checksums(path), checksums)
            return _pool(stored, about)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not a whole pool of records ({error}): write it again") from error
    raise ValueError(f"{path} has format {about['format']}, this ecg-jax reads up to {FORMAT}: upgrade")


def _about(stored: Mapping[str, Stored]) -> Any:
    if "about" not in stored:
        raise ValueError("it has no array about")
    if stored["about"].dtype.kind != "U" or stored["about"].shape:
        raise ValueError(f"about is {stored['about'].dtype}{stored['about'].shape}, expected one text")
    return json.loads(str(stored["about"].read()))


def _check(stored: Mapping[str, Stored], about: Any) -> None:
    """Raises ValueError where arrays and description do not fit each other; no array is read."""
    signals = stored.get("ecg")
    if signals is not None and (signals.dtype != np.int16 or len(signals.shape) != 3 or not signals.shape[1]):
        raise ValueError(f"ecg is {signals.dtype}{signals.shape}, expected int16 (records, samples, {len(LEADS)})")
    count = signals.shape[0] if signals is not None else None
    expected = {"about": ("U", ()), "ecg": ("i", (None, None, len(LEADS))), "record_id": ("U", (count,))}
    expected |= {"patient_id": ("iu", (count,)), "fold": ("iu", (count,)), "unit": ("U", (count,))}
    if "origins" in about:
        expected["origin"] = ("iu", (count,))
    arrays.check(stored, expected)
    field(about, "source", str)
    if field(about, "sample_rate_hz", int, least=1) > FASTEST_HZ:
        raise ValueError(f"its sample_rate_hz is {about['sample_rate_hz']:,}")
    labels = field(about, "labels", list)
    if len(labels) != count or not all(
        type(codes) is list and all(type(code) is str for code in codes) for codes in labels
    ):
        raise ValueError(f"its labels are {len(labels)} entries for {count} records, or hold other things than codes")


def _compare(found: Mapping[str, str], expected: Mapping[str, str] | None) -> None:
    if expected is not None and found != expected:
        other = sorted(name for name in found.keys() | expected.keys() if found.get(name) != expected.get(name))
        raise ValueError(f"{', '.join(other)} of it are not those that the checksums were taken of")


def _pool(stored: Mapping[str, Stored], about: dict[str, Any]) -> RecordPool:
    simulated = about.get("simulated")
    if simulated is not None:
        simulated = Simulated(field(simulated, "tier", str), field(simulated, "real_information", str))
    return RecordPool(
        source=about["source"],
        sample_rate_hz=about["sample_rate_hz"],
        ecg=stored["ecg"].mapped() if stored["ecg"].shape[0] else stored["ecg"].read(),
        **{name: stored[name].read() for name in _ARRAYS if name != "ecg"},
        labels=tuple(tuple(codes) for codes in about["labels"]),
        origins=_origins(about["origins"], stored["origin"].read()) if "origins" in about else None,
        simulated=simulated,
    )


def _origins(about: Any, of: np.ndarray) -> Origins:
    names, weights = field(about, "names", list), about.get("weights")
    if not names or not all(type(name) is str for name in names):
        raise ValueError(f"its origins' names are {names!r:.80}, expected texts")
    if len(of) and not 0 <= of.min() <= of.max() < len(names):
        raise ValueError(f"origin names sources {of.min()} to {of.max()} of {len(names)}")
    if weights is None:
        return Origins(tuple(names), of, None)
    whole = re.compile(r"[0-9]{1,18}(/[0-9]{1,18})?")
    if type(weights) is not list or len(weights) != len(names):
        raise ValueError(f"its origins' weights are {weights!r:.80}, expected one for each of {len(names)} sources")
    if not all(type(weight) is str and whole.fullmatch(weight) and int(weight.split("/")[-1]) for weight in weights):
        raise ValueError(f"its origins' weights are {weights!r:.80}, expected ratios such as 1/3")
    return Origins(tuple(names), of, tuple(map(Fraction, weights)))
