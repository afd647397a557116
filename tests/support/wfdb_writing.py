"""Writes WFDB recordings for tests, every field of a header as given, so that readers meet what the wild writes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ecg_jax.data.ecg import LEADS

RATE_HZ = 500


def counts(seed: int = 3, samples: int = 5000, limit: int = 500) -> np.ndarray:
    """Twelve waves `(samples, 12)` in whole steps within ±`limit`, no two alike."""
    rng = np.random.default_rng(seed)
    t = np.arange(samples)[:, None] / RATE_HZ
    waves = np.sin(2 * np.pi * rng.uniform(1, 9, 12) * t + rng.uniform(0, 6, 12)) * rng.uniform(0.4, 0.9, 12)
    return np.rint(limit * waves).astype(np.int64)


def lines(
    steps: np.ndarray,
    *,
    record: str | None = None,
    files: Sequence[str] | str = "r.dat",
    forms: Sequence[str] | str = "16",
    gains: Sequence[str] | str = "200(0)/mV",
    zero: str = "0",
    checksums: Sequence[object] | None = None,
    names: Sequence[str] = LEADS,
) -> list[str]:
    """The lines of a header of `(samples, leads)`, each field as given."""

    def each(given: Sequence[str] | str) -> Sequence[str]:
        return [given] * len(names) if isinstance(given, str) else given

    sums = steps.sum(axis=0) % 65536 if checksums is None else checksums
    told = zip(each(files), each(forms), each(gains), steps[0], sums, names, strict=True)
    return [
        f"r {len(names)} {RATE_HZ} {len(steps)}" if record is None else record,
        *(f"{file} {form} {gain} 16 {zero} {first} {total} 0 {name}" for file, form, gain, first, total, name in told),
    ]


def write(
    folder: Path, header: Sequence[str], data: dict[str, bytes], *, eol: str = "\n", encoding: str = "utf-8"
) -> Path:
    """Writes `r.hea` and its files; returns the header's path."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in data.items():
        (folder / name).write_bytes(content)
    path = folder / "r.hea"
    path.write_bytes((eol.join(header) + eol).encode(encoding))
    return path


def packed(steps: np.ndarray, form: str) -> bytes:
    """Steps `(samples, leads)` in a storage format, signal(5); in format 8, from each lead's first value on."""
    flat = steps.ravel()
    match form:
        case "16" | "61":
            return flat.astype("<i2" if form == "16" else ">i2").tobytes()
        case "32":
            return flat.astype("<i4").tobytes()
        case "24":
            return flat.astype("<i4").view(np.uint8).reshape(-1, 4)[:, :3].tobytes()
        case "80" | "160":
            return (flat + (128 if form == "80" else 32768)).astype("<u1" if form == "80" else "<u2").tobytes()
        case "8":
            return np.diff(steps, axis=0, prepend=steps[:1]).astype(np.int8).tobytes()
        case "212":
            low, high = flat[0::2] & 0xFFF, flat[1::2] & 0xFFF
            return np.stack((low & 0xFF, low >> 8 | (high >> 8) << 4, high & 0xFF), axis=1).astype(np.uint8).tobytes()
        case "310":
            a, b, c = (flat[k::3] & 0x3FF for k in range(3))
            return np.stack((a << 1 | (c & 0x1F) << 11, b << 1 | (c >> 5) << 11), axis=1).astype("<u2").tobytes()
        case "311":
            a, b, c = (flat[k::3] & 0x3FF for k in range(3))
            return (a | b << 10 | c << 20).astype("<u4").tobytes()
    raise ValueError(form)
