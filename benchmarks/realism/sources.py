"""The sets of records that are compared: real ones, the tiers', NeuroKit2's; int16 at 100 Hz behind one chain."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import wfdb

from ecg_jax.data.ecg import LEADS, RecordPool
from ecg_jax.data.preprocess import apply_chain
from ecg_jax.data.real.datasets.prepare import prepare_ptbxl
from ecg_jax.data.synthetic.fitted.priors import fit_priors
from ecg_jax.data.synthetic.fitted.surrogate import fit_spectrum
from ecg_jax.data.synthetic.render.source import SyntheticSource
from ecg_jax.data.synthetic.render.tiers import Tier, recipe
from experiments.protocol.neurokit import MULTILEADS, varied_records

#: Fold 9 validates and fold 10 is sealed: neither is read for this.
TRAIN_FOLDS = tuple(range(1, 9))
SEED = 7
RATE_HZ, SECONDS, NATIVE_RATE_HZ = 100, 10, 500
NEUROKIT = {"NeuroKit2 multileads": MULTILEADS, "NeuroKit2 ecgsyn": "ecgsyn"}
Advance = Callable[[int], None]


@dataclasses.dataclass(frozen=True)
class Records:
    """Int16 records `(N, 1000, 12)` with a patient each may share, and where they come from."""

    name: str
    counts: np.ndarray
    patient: np.ndarray  # (N,)
    real_information: str


def ptbxl_halves(data_dir: Path, cache: Path) -> tuple[RecordPool, RecordPool]:
    """PTB-XL's training folds in two halves of their patients: one to fit to, one to compare with."""
    pool = prepare_ptbxl(data_dir, cache).in_folds(TRAIN_FOLDS)
    patients = np.random.default_rng(SEED).permutation(np.unique(pool.patient_id))
    in_first = np.isin(pool.patient_id, patients[: len(patients) // 2])
    return pool.take(np.flatnonzero(in_first)), pool.take(np.flatnonzero(~in_first))


def of_pool(name: str, pool: RecordPool, limit: int) -> Records:
    """At most `limit` records of a pool, drawn evenly over its order."""
    chosen = np.unique(np.linspace(0, len(pool) - 1, min(limit, len(pool))).astype(int))
    return Records(name, pool.ecg[chosen], pool.patient_id[chosen], "real")


def ludb(folder: Path, limit: int) -> Records:
    """LUDB's records (Kalyakulina et al., IEEE Access 8:186181, 2020), a patient each, through the same chain.

    Raises FileNotFoundError where its list of records is missing, ValueError for leads or lengths not as published.
    """
    listed = folder / "RECORDS"
    if not listed.is_file():
        raise FileNotFoundError(f"{listed} does not exist: fetch LUDB (physionet.org/content/ludb) beside ptbxl/")
    names = listed.read_text().split()[:limit]
    records = [wfdb.rdrecord(str(folder / name)) for name in names]
    wanted = [lead.upper() for lead in LEADS]
    signals = []
    for name, record in zip(names, records, strict=True):
        leads = [lead.upper() for lead in record.sig_name]
        if sorted(leads) != sorted(wanted) or (record.fs, record.sig_len) != (NATIVE_RATE_HZ, NATIVE_RATE_HZ * SECONDS):
            raise ValueError(f"{folder / name}: {record.sig_len} samples at {record.fs} Hz, leads {leads}")
        signals.append(record.p_signal[:, [leads.index(lead) for lead in wanted]])
    return Records("LUDB", apply_chain(np.stack(signals), NATIVE_RATE_HZ, RATE_HZ), np.arange(len(names)), "real")


def of_tier(tier: Tier, fit: RecordPool, count: int) -> Records:
    """Records of a tier as training reads them; T-1 and T2 are fitted to `fit`."""
    fitted = {Tier.NOISE: fit_spectrum, Tier.FITTED: fit_priors}.get(tier)
    source = SyntheticSource(SEED, recipe(tier), fitted=fitted(fit) if fitted else None)
    return Records(tier.value, source.read(np.arange(count)), np.arange(count), source.real_information)


def neurokit(name: str, count: int, advance: Advance = lambda done: None) -> Records:
    """Records of NeuroKit2 at 500 Hz, through the chain. Its "ecgsyn" has one lead: it stands in all twelve places."""
    return Records(name, varied_records(NEUROKIT[name], count, advance), np.arange(count), "published statistics")
