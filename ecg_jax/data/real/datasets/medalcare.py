"""MedalCare-XL (Gillette et al., Scientific Data 10:531, 2023): simulated ECG, never real.

`WP2_largeDataset_Noise/CLASS/…/{train,valid,test}/run_S…/000001_noise.csv` holds 12 rows of samples in mV at 500 Hz. Of
the three forms of a record (raw, noise, filtered) the one with noise is read. Labels are the class, and the kind of
infarction where there is one; the torso is the patient.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ecg_jax.data.ecg import LEADS, SIMULATED
from ecg_jax.data.exclusions import first_line
from ecg_jax.data.real.datasets.catalogue import Catalogue, Entry, Output, Raw, catalogue, digest_of, numbered

RATE_HZ = 500
SIGNALS = "WP2_largeDataset_Noise"
CLASSES = ("sinus", "avblock", "fam", "iab", "lae", "lbbb", "rbbb", "mi")
#: The publisher's splits as folds of the protocol: training, validation, test.
FOLD_OF = {"train": 1, "valid": 9, "val": 9, "test": 10}
_ENDING = "_noise.csv"


def list_medalcare(name: str, folder: Path, output: Output) -> Catalogue:
    """The noisy records below `WP2_largeDataset_Noise`, by path. The set's `source` is `NAME_simulated`.

    Raises FileNotFoundError when there are none, and ValueError for a path that names no class or split.
    """
    root = next((found for found in sorted(folder.rglob(SIGNALS)) if found.is_dir()), None)
    if root is None:
        raise FileNotFoundError(f"{folder} holds no folder {SIGNALS}: unpack the published archive there")
    paths = [path for path in sorted(root.rglob(f"*{_ENDING}")) if not path.name.startswith(".")]
    source = name + SIMULATED
    parts = {path: path.relative_to(root).parts for path in paths}
    torso_of = {path: _torso(parts[path], path) for path in paths}
    number_of = numbered(torso_of.values())
    entries = [
        Entry(
            record_id=f"{source}/{path.relative_to(root).as_posix().removesuffix(_ENDING)}",
            file=path,
            patient_id=number_of[torso_of[path]],
            fold=FOLD_OF[_split(parts[path], path)],
            labels=_labels(parts[path], path),
        )
        for path in paths
    ]
    if not entries:
        raise FileNotFoundError(f"{root} holds no record: not one file *{_ENDING}")
    return catalogue(source, entries, load, output, digest=digest_of(folder, files=paths))


def _split(parts: tuple[str, ...], path: Path) -> str:
    found = [part for part in parts[:-1] if part.lower() in FOLD_OF]
    if len(found) != 1:
        raise ValueError(f"{path} lies in no split of {', '.join(FOLD_OF)}, or in several")
    return found[0].lower()


def _torso(parts: tuple[str, ...], path: Path) -> str:
    """The torso within its split: whether splits share torsos the publication does not say."""
    return f"{_split(parts, path)}/{parts[-2]}"


def _labels(parts: tuple[str, ...], path: Path) -> tuple[str, ...]:
    if parts[0].lower() not in CLASSES:
        raise ValueError(f"{path}: {parts[0]!r} is none of the classes {', '.join(CLASSES)}")
    kinds = [part for part in parts[1:-2] if part.lower() not in FOLD_OF]
    return tuple(sorted({parts[0].lower(), *kinds}))


def load(entry: Entry) -> Raw:
    """A record. Raises ValueError, as "reason: details", for one that cannot be used."""
    try:
        ecg = np.loadtxt(entry.file, delimiter=",", ndmin=2)
    except (OSError, ValueError, UnicodeDecodeError) as error:
        raise ValueError(f"unreadable: {entry.file.name}: {first_line(error)}") from error
    if ecg.shape[0] != len(LEADS):
        raise ValueError(f"leads: {ecg.shape[0]} rows in {entry.file.name}, expected {len(LEADS)}")
    return Raw(RATE_HZ, ecg.T)
