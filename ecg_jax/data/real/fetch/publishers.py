"""Where each set is published, under which licence, and how its files are laid out there.

Addresses are PhysioNet's projects, and Zenodo's and Figshare's records that the publications name. A licence that such
a record states is what is shown.
"""

from __future__ import annotations

import dataclasses
import enum

_PHYSIONET = "https://physionet.org/files"
_CHALLENGE = f"{_PHYSIONET}/challenge-2021/1.0.3"
_ZENODO = "https://zenodo.org/api/records"
_FIGSHARE = "https://api.figshare.com/v2/articles"
_ODC_BY = "Open Data Commons Attribution 1.0 (ODC-BY)"
_CC_BY = "Creative Commons Attribution 4.0 (CC BY 4.0)"
_CHALLENGE_CITE = "Reyna et al., Computing in Cardiology 2021; Perez Alday et al., Physiol Meas 41:124003 (2020)"


class Host(enum.StrEnum):
    """How a publisher lists its files."""

    PHYSIONET = "PhysioNet"  # SHA256SUMS.txt names every file
    ZENODO = "Zenodo"  # a JSON record with sizes and MD5 sums; archives
    FIGSHARE = "Figshare"  # a JSON article with sizes and MD5 sums; archives
    GATED = "gated"  # behind an account: explained, never attempted


@dataclasses.dataclass(frozen=True)
class Publication:
    """A set as published. `addresses`: a PhysioNet version folder, or JSON records.

    `folder` is the part of a PhysioNet project that is the set ("" for all of it), and `skip` beginnings of paths there
    that no reader uses. `tables` are files always fetched; `row_paths` is the (table, column) whose rows name the
    recordings, so that the table can be cut to those that were fetched. `gate` says how to ask for a gated set.
    """

    name: str
    title: str
    host: Host
    addresses: tuple[str, ...]
    licence: str
    cite: str
    size: str
    folder: str = ""
    skip: tuple[str, ...] = ()
    tables: tuple[str, ...] = ()
    row_paths: tuple[str, str] | None = None
    gate: str = ""


def _challenge(name: str, folder: str, title: str, size: str) -> Publication:
    return Publication(
        name=name,
        title=f"{title}, as in the PhysioNet/CinC Challenge 2021",
        host=Host.PHYSIONET,
        addresses=(_CHALLENGE,),
        licence=_CC_BY,
        cite=_CHALLENGE_CITE,
        size=size,
        folder=f"training/{folder}",
        tables=("LICENSE.txt",),
    )


_ALL = (
    Publication(
        name="ptbxl",
        title="PTB-XL 1.0.3",
        host=Host.PHYSIONET,
        addresses=(f"{_PHYSIONET}/ptb-xl/1.0.3",),
        licence=_CC_BY,
        cite="Wagner et al., Sci Data 7:154 (2020), doi 10.13026/kfzx-aw45",
        size="21,799 records; 2.6 GB of 500 Hz files",
        skip=("records100/",),  # readers resample the 500 Hz files
        tables=("LICENSE.txt", "ptbxl_database.csv", "scp_statements.csv"),
        row_paths=("ptbxl_database.csv", "filename_hr"),
    ),
    _challenge("cpsc2018", "cpsc_2018", "CPSC 2018", "6,877 records"),
    _challenge("cpsc_extra", "cpsc_2018_extra", "CPSC 2018, unused part", "3,453 records"),
    _challenge("incart", "st_petersburg_incart", "St Petersburg INCART", "74 records of 30 min"),
    _challenge("ptb", "ptb", "PTB Diagnostic", "516 records"),
    _challenge("ptbxl_challenge", "ptb-xl", "PTB-XL", "21,837 records: repeats ptbxl"),
    _challenge("georgia", "georgia", "Georgia 12-lead", "10,344 records"),
    _challenge("chapman_shaoxing", "chapman_shaoxing", "Chapman-Shaoxing", "10,247 records"),
    _challenge("ningbo", "ningbo", "Ningbo", "34,905 records"),
    Publication(
        name="ludb",
        title="LUDB 1.0.1",
        host=Host.PHYSIONET,
        addresses=(f"{_PHYSIONET}/ludb/1.0.1",),
        licence=_ODC_BY,
        cite="Kalyakulina et al., IEEE Access 8:186181 (2020), doi 10.13026/eegm-h675",
        size="200 records with wave boundaries",
        tables=("LICENSE.txt", "README", "RECORDS", "ANNOTATORS", "ludb.csv"),
    ),
    Publication(
        name="mitdb",
        title="MIT-BIH Arrhythmia 1.0.0",
        host=Host.PHYSIONET,
        addresses=(f"{_PHYSIONET}/mitdb/1.0.0",),
        licence=_ODC_BY,
        cite="Moody & Mark, IEEE Eng Med Biol 20(3):45 (2001)",
        size="48 two-lead records of 30 min",
        skip=("mitdbdir/", "x_mitdb/"),
        tables=("RECORDS",),
    ),
    Publication(
        name="mimic_iv_ecg",
        title="MIMIC-IV-ECG 1.0",
        host=Host.PHYSIONET,
        addresses=(f"{_PHYSIONET}/mimic-iv-ecg/1.0",),
        licence="Open Data Commons Open Database License 1.0 (ODbL): derived databases must be shared alike",
        cite="Gow et al., PhysioNet (2023), doi 10.13026/4nqg-sb35",
        size="800,035 records, 90 GB. The ECG are open; linking them to MIMIC-IV's clinical tables needs credentials",
        tables=("LICENSE.txt", "record_list.csv", "machine_measurements.csv"),
        row_paths=("record_list.csv", "path"),
    ),
    Publication(
        name="code15",
        title="CODE-15%",
        host=Host.ZENODO,
        addresses=(f"{_ZENODO}/4916206",),
        licence="as Zenodo's record states it",
        cite="Ribeiro et al., Nat Commun 11:1760 (2020), doi 10.5281/zenodo.4916206",
        size="345,779 records in 18 archives",
        tables=("exams.csv",),
    ),
    Publication(
        name="sph",
        title="SPH (Shandong Provincial Hospital)",
        host=Host.FIGSHARE,
        addresses=(f"{_FIGSHARE}/17912441", f"{_FIGSHARE}/17912507", f"{_FIGSHARE}/17912444"),
        licence="as Figshare's articles state it",
        cite="Liu et al., Sci Data 9:272 (2022), doi 10.6084/m9.figshare.c.5779802.v1",
        size="25,770 records in one archive of 2.3 GB",
        tables=("metadata.csv", "code.csv"),
    ),
    Publication(
        name="medalcare_xl",
        title="MedalCare-XL (simulated, never real)",
        host=Host.ZENODO,
        addresses=(f"{_ZENODO}/8068944",),
        licence="as Zenodo's record states it",
        cite="Gillette et al., Sci Data 10:531 (2023), doi 10.5281/zenodo.8068944",
        size="16,900 simulated records in one archive",
    ),
    Publication(
        name="heedb",
        title="Harvard-Emory ECG Database",
        host=Host.GATED,
        addresses=(),
        licence="Brain Data Science Platform's data use agreement",
        cite="bdsp.io",
        size="about 11 million records",
        gate="credentialed: make an account at https://bdsp.io, sign the data use agreement there, fetch the files "
        "with the tools and keys you are given, and read the folder as any folder of WFDB records",
    ),
)

PUBLICATIONS = {publication.name: publication for publication in _ALL}
