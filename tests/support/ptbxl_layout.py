"""Writes a small PTB-XL folder as published (WFDB, CSV tables) from invented signals, for tests without real data."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import wfdb

NAMES = ("I", "II", "III", "AVR", "AVL", "AVF", "V1", "V2", "V3", "V4", "V5", "V6")
STATEMENTS = (
    {"": "NORM", "diagnostic": "1.0", "diagnostic_class": "NORM", "diagnostic_subclass": "NORM"},
    {"": "ASMI", "diagnostic": "1.0", "diagnostic_class": "MI", "diagnostic_subclass": "AMI"},
    {"": "NST_", "diagnostic": "1.0", "form": "1.0", "diagnostic_class": "STTC", "diagnostic_subclass": "NST_"},
    {"": "SR", "rhythm": "1.0"},
)


def ecg_like(seed: int, rate_hz: int = 500, seconds: int = 10) -> np.ndarray:
    """Beats of five Gaussian waves on slow drift and noise: float64 (samples, 12) in mV, whole µV."""
    rng = np.random.default_rng(seed)
    t = np.arange(rate_hz * seconds) / rate_hz
    ecg = 0.1 * np.sin(2 * np.pi * 0.2 * t[:, None] + rng.uniform(0, 6, 12)) + rng.normal(0, 0.01, (len(t), 12))
    for beat in np.arange(rng.uniform(0, 0.5), seconds, rng.uniform(0.6, 1.0)):
        for offset, width in ((-0.16, 0.025), (-0.025, 0.01), (0.0, 0.012), (0.03, 0.01), (0.25, 0.05)):
            ecg += rng.normal(0, 0.5, 12) * np.exp(-0.5 * ((t[:, None] - beat - offset) / width) ** 2)
    return ecg.round(3)


def write_signal(
    stem: Path, ecg: np.ndarray, rate_hz: int = 500, names: tuple[str, ...] = NAMES, unit: str = "mV"
) -> None:
    """Writes `(samples, leads)` as one WFDB record of format 16, 1000 counts per unit."""
    stem.parent.mkdir(parents=True, exist_ok=True)
    leads = len(names)
    wfdb.wrsamp(
        stem.name,
        rate_hz,
        [unit] * leads,
        list(names),
        p_signal=ecg,
        fmt=["16"] * leads,
        adc_gain=[1000.0] * leads,
        baseline=[0] * leads,
        write_dir=str(stem.parent),
    )


def write_ptbxl(folder: Path, count: int = 3) -> list[dict[str, str]]:
    """Writes records 1 … count, one patient and one fold each, and the tables. Returns the rows of the database."""
    rows = []
    for ecg_id in range(1, count + 1):
        stem = f"records500/00000/{ecg_id:05d}_hr"
        write_signal(folder / stem, ecg_like(ecg_id))
        rows.append(
            {
                "ecg_id": str(ecg_id),
                "patient_id": f"{15000 + ecg_id}.0",
                "scp_codes": "{'ASMI': 100.0, 'NST_': 50.0, 'SR': 0.0}",
                "strat_fold": str(1 + (ecg_id - 1) % 10),
                "filename_hr": stem,
            }
        )
    write_table(folder / "ptbxl_database.csv", rows)
    columns = ("", "diagnostic", "form", "rhythm", "diagnostic_class", "diagnostic_subclass")
    write_table(folder / "scp_statements.csv", [{name: row.get(name, "") for name in columns} for row in STATEMENTS])
    return rows


def write_z100(folder: Path, ecg_ids: tuple[int, ...]) -> list[dict[str, str]]:
    """Writes the z-scored 100 Hz sample of `ecg_ids`, patients and folds as in `write_ptbxl`."""
    rows = []
    for ecg_id in ecg_ids:
        stem = f"recordsz100/00000/{ecg_id:05d}_zr"
        ecg = ecg_like(ecg_id, rate_hz=100)
        write_signal(folder / stem, (ecg - ecg.mean(0)) / ecg.std(0), rate_hz=100, unit="NU")
        rows.append(
            {
                "ecg_id": str(ecg_id),
                "patient_id": str(15000 + ecg_id),
                "strat_fold": str(1 + (ecg_id - 1) % 10),
                "filename_zr": stem,
                "super_class": "MI;STTC",
                "sub_class": "AMI;NST",
                "form": "NST",
                "rhythm": "SR",
            }
        )
    write_table(folder / "ptbxl_z100_database.csv", rows)
    return rows


def write_table(path: Path, rows: list[dict[str, str]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)
