"""One vocabulary for the labels of all sets; sets keep their own codes, and these translate them.

Statements and their names are those that the PhysioNet Challenge 2021 scores (Reyna et al., Computing in Cardiology
2021), where pairs that it counts as one are one here, and a few more that PTB-XL and SNOMED CT share. AHA codes are
those of PTB-XL's and the Challenge's published tables. Free text, LUDB's diagnoses and MIMIC-IV-ECG's reports, is not
translated.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable

from ecg_jax.data.ecg import RecordPool


@dataclasses.dataclass(frozen=True)
class Statement:
    """What is said of a recording, and its codes: SNOMED CT (the Challenge), SCP (PTB-XL), AHA (SPH), CODE-15%."""

    name: str
    means: str
    snomed: tuple[str, ...] = ()
    scp: tuple[str, ...] = ()
    aha: tuple[str, ...] = ()
    code15: tuple[str, ...] = ()

    @property
    def codes(self) -> tuple[str, ...]:
        """All codes; no code is of two vocabularies."""
        return (*self.snomed, *self.scp, *self.aha, *self.code15)


_MI_SCP = ("MI", "IMI", "ASMI", "ILMI", "AMI", "ALMI", "LMI", "IPLMI", "IPMI", "PMI")

STATEMENTS = (
    Statement("NORM", "normal ECG", (), ("NORM",), ("1",), ("normal_ecg",)),
    Statement("NSR", "sinus rhythm", ("426783006",), ("SR",), ("20",)),
    Statement("SA", "sinus arrhythmia", ("427393009",), ("SARRH",), ("23",)),
    Statement("SB", "sinus bradycardia", ("426177001",), ("SBRAD",), ("22",), ("SB",)),
    Statement("STach", "sinus tachycardia", ("427084000",), ("STACH",), ("21",), ("ST",)),
    Statement("Brady", "bradycardia", ("426627000",)),
    Statement("AF", "atrial fibrillation", ("164889003",), ("AFIB",), ("50",), ("AF",)),
    Statement("AFL", "atrial flutter", ("164890007",), ("AFLT",), ("51",)),
    Statement("SVT", "supraventricular tachycardia", ("426761007", "67198005"), ("SVTAC", "PSVT"), ("55",)),
    Statement("PAC", "premature atrial contraction", ("284470004", "63593006"), ("PAC",), ("30",)),
    Statement("PVC", "premature ventricular contraction", ("427172004", "17338001"), ("PVC",), ("60",)),
    Statement("PR", "pacing rhythm", ("10370003",), ("PACE",)),
    Statement("IAVB", "first-degree AV block", ("270492004",), ("1AVB",), ("82",), ("1dAVb",)),
    Statement("LPR", "prolonged PR interval", ("164947007",), ("LPR",)),
    Statement("IIAVB", "second-degree AV block", ("195042002",), ("2AVB",)),
    Statement("IIIAVB", "complete AV block", ("27885002",), ("3AVB",), ("88",)),
    Statement("WPW", "pre-excitation", ("74390002",), ("WPW",)),
    Statement("BBB", "bundle branch block", ("6374002",)),
    Statement("LBBB", "left bundle branch block", ("164909002", "733534002"), ("CLBBB",), ("104",), ("LBBB",)),
    Statement("ILBBB", "incomplete left bundle branch block", ("251120003",), ("ILBBB",)),
    Statement("RBBB", "right bundle branch block", ("59118001", "713427006"), ("CRBBB",), ("106",), ("RBBB",)),
    Statement("IRBBB", "incomplete right bundle branch block", ("713426002",), ("IRBBB",), ("105",)),
    Statement("LAnFB", "left anterior fascicular block", ("445118002",), ("LAFB",), ("101",)),
    Statement("LPFB", "left posterior fascicular block", ("445211001",), ("LPFB",), ("102",)),
    Statement("NSIVCB", "nonspecific intraventricular conduction disorder", ("698252002",), ("IVCD",), ("107",)),
    Statement("LAD", "left axis deviation", ("39732003",), (), ("121",)),
    Statement("RAD", "right axis deviation", ("47665007",), (), ("120",)),
    Statement("LQRSV", "low QRS voltages", ("251146004",), ("LVOLT",), ("125",)),
    Statement("PRWP", "poor R wave progression", ("365413008",)),
    Statement("QAb", "Q wave abnormal", ("164917005",), ("QWAVE",)),
    Statement("LVH", "left ventricular hypertrophy", ("164873001",), ("LVH",), ("142",)),
    Statement("RVH", "right ventricular hypertrophy", ("89792004",), ("RVH",), ("143",)),
    Statement("MI", "myocardial infarction", ("164865005",), _MI_SCP, ("160", "161", "162", "163", "165")),
    Statement("LQT", "prolonged QT interval", ("111975006",), ("LNGQT",), ("148",)),
    Statement("STD", "ST depression", ("429622005",), ("STD_",)),
    Statement("STE", "ST elevation", ("164931005",), ("STE_",)),
    Statement("TAb", "T wave abnormal", ("164934002",), ("TAB_",), ("147",)),
    Statement("TInv", "T wave inversion", ("59931005",), ("INVT",), ("147+367",)),
)


@functools.cache
def name_of() -> dict[str, str]:
    """The common name of each code that has one."""
    return {code: statement.name for statement in STATEMENTS for code in statement.codes}


def common(labels: Iterable[str]) -> tuple[str, ...]:
    """The common names of a set's own labels, sorted, each once; labels without one are left out.

    AHA modifiers that no statement knows are dropped: "50+346" is "50".
    """
    names = name_of()
    found = (names.get(label, names.get(label.partition("+")[0])) for label in labels)
    return tuple(sorted({name for name in found if name is not None}))


def common_labels(pool: RecordPool) -> tuple[tuple[str, ...], ...]:
    """The labels of each record of `pool` in the common vocabulary."""
    return tuple(common(labels) for labels in pool.labels)
