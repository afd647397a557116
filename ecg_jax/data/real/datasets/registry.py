"""Which sets are known by name, and how each is listed."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

from ecg_jax.data.real.datasets import any_folder, code15, ludb, medalcare, mimic, ptbxl, sph
from ecg_jax.data.real.datasets.catalogue import Catalogue, Output

#: Said of readers that were tried on files written here in the published layout, for want of the publisher's own.
UNTRIED = "not yet tested on the publisher's own files"


@dataclasses.dataclass(frozen=True)
class Family:
    """A published set: what it is, how it is listed, and whether its reader was tried on its publisher's own files."""

    name: str
    about: str
    list_set: Callable[[str, Path, Output], Catalogue]
    is_tried: bool = True


_ALL = (
    Family(
        "ptbxl",
        "PTB-XL, with its folds and SCP codes",
        lambda name, source, output: ptbxl.list_ptbxl(source, output),
    ),
    Family("ludb", "LUDB, in standard deviations, with a table of its waves", ludb.list_ludb),
    Family(
        "code15",
        "CODE-15%: exams.csv and exams_part*.hdf5; amplitude unknown but for --factor",
        code15.list_code15,
        is_tried=False,
    ),
    Family("mimic_iv_ecg", "MIMIC-IV-ECG: record_list.csv and files/", mimic.list_mimic, is_tried=False),
    Family("sph", "SPH: metadata.csv and records/*.h5", sph.list_sph, is_tried=False),
    Family("medalcare_xl", "MedalCare-XL: simulated, never a real source", medalcare.list_medalcare, is_tried=False),
)

FAMILIES = {family.name: family for family in _ALL}


def list_set(name: str, source: Path, output: Output, table: Path | None = None) -> Catalogue:
    """The catalogue of a set: of a known family by its name, of any other name a folder of recordings.

    Raises FileNotFoundError and ValueError as the families do, and ValueError for a table of labels with a known
    family, which has its own.
    """
    if name not in FAMILIES:
        return any_folder.list_folder(name, source, output, table)
    if table is not None:
        raise ValueError(f"{name} has labels of its own, {table} is not read; give the set another name to use it")
    return FAMILIES[name].list_set(name, source, output)
