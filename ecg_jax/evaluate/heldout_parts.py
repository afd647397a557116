"""The held-out loss taken apart: by lead, by part of the beat, squared and absolute, by group of patients.

Most of the energy of a z-scored ECG lies in its QRS complexes, so a lower loss may be theirs alone: a finding holds
where it stands in ST-T and in absolute error too. Parts are those of annotated waves where a record has them, and
windows about the R peaks elsewhere.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping

import jax
import numpy as np
import pandas as pd

from ecg_jax.data.ecg import INDEPENDENT_LEAD_INDICES, INDEPENDENT_LEADS, normalise
from ecg_jax.distributed.mesh import data_devices, place_batch
from ecg_jax.evaluate.handmade import r_peaks
from ecg_jax.evaluate.intervals import mean_over_patients
from ecg_jax.models import Model, Params
from ecg_jax.objectives import HeldOut, masked

#: Parts of the beat in the order of their numbers, and the windows about an R peak that stand for them (s), where no
#: waves are annotated; what two windows claim is the later one's.
PARTS = ("rest", "P", "ST-T", "QRS")
WINDOWS_S = {"P": (-0.24, -0.06), "ST-T": (0.06, 0.42), "QRS": (-0.06, 0.06)}
_NUMBER = {name: number for number, name in enumerate(PARTS)}


@dataclasses.dataclass(frozen=True)
class Taken:
    """Sums of squared and absolute errors over hidden samples, and their number, by record, part and lead,
    `(R, parts, 8)`, over all masks."""

    squares: np.ndarray
    absolute: np.ndarray
    count: np.ndarray
    patient_R: np.ndarray

    def by_patient(self, *, part: str = "", lead: str = "", absolute: bool = False) -> pd.Series:
        """The mean error of each patient, over records, in one part or lead or all; without those of no such sample."""
        parts = [_NUMBER[part]] if part else slice(None)
        leads = [INDEPENDENT_LEADS.index(lead)] if lead else slice(None)
        chosen = self.absolute if absolute else self.squares
        sums_R, count_R = (of[:, parts][:, :, leads].sum(axis=(1, 2)) for of in (chosen, self.count))
        held = count_R > 0
        return pd.Series(sums_R[held] / count_R[held]).groupby(self.patient_R[held]).mean()


def part_of_samples(ecg: np.ndarray, sample_rate_hz: int) -> np.ndarray:
    """The part of the beat that each sample of int16 records `(R, samples, 12)` is of, `(R, samples)`, by windows."""
    found = np.zeros(ecg.shape[:2], np.int64)
    for row, x_SxI in enumerate(normalise(ecg)[..., np.array(INDEPENDENT_LEAD_INDICES)]):
        peaks_s = r_peaks(x_SxI, sample_rate_hz) / sample_rate_hz
        for name, (from_s, to_s) in WINDOWS_S.items():
            for peak_s in peaks_s:
                found[row, _span(peak_s + from_s, peak_s + to_s, sample_rate_hz)] = _NUMBER[name]
    return found


def part_of_waves(waves: pd.DataFrame, samples: int, sample_rate_hz: int) -> np.ndarray:
    """The same from the annotated waves of one record (`wave, onset_s, offset_s`, of one lead), `(samples,)`; ST-T
    reaches from the end of QRS to the end of T. Outside the first and last annotation it is -1: nobody looked there."""
    found = np.full(samples, -1)
    whole = waves.dropna(subset=["onset_s", "offset_s"]).sort_values("onset_s")
    if len(whole):
        found[_span(whole["onset_s"].min(), whole["offset_s"].max(), sample_rate_hz)] = _NUMBER["rest"]
    end_s = np.nan
    for wave, onset_s, offset_s in whole[["wave", "onset_s", "offset_s"]].itertuples(index=False, name=None):
        begin_s = end_s if wave == "T" and np.isfinite(end_s) else onset_s
        found[_span(begin_s, offset_s, sample_rate_hz)] = _NUMBER["ST-T" if wave == "T" else wave]
        end_s = offset_s if wave == "QRS" else np.nan
    return found


def _span(from_s: float, to_s: float, sample_rate_hz: int) -> slice:
    return slice(max(0, round(from_s * sample_rate_hz)), max(0, round(to_s * sample_rate_hz)))


def take_apart(
    model: Model, params: Params, heldout: HeldOut, part_RxS: np.ndarray, *, batch_records: int = 64
) -> Taken:
    """The errors of a masked model on every hidden sample, summed by record, part and lead. Needs a mesh in force.

    Raises ValueError for parts that are not of these records.
    """
    records, masks, patches = heldout.hidden.shape[:3]
    if part_RxS.shape != heldout.pool.ecg.shape[:2]:
        raise ValueError(f"parts of shape {part_RxS.shape} for records of {heldout.pool.ecg.shape[:2]}")
    batch = -(-min(batch_records, records) // data_devices()) * data_devices()
    sums = np.zeros((3, records, len(PARTS), len(INDEPENDENT_LEADS)))
    for start in range(0, records, batch):
        rows = np.arange(start, start + batch) % records
        ecg_BxSxE = heldout.pool.read(rows)
        x_BxSxI = normalise(ecg_BxSxE)[..., np.array(INDEPENDENT_LEAD_INDICES)]
        held_Bx1xI = x_BxSxI.any(axis=1, keepdims=True)
        own = slice(start, min(start + batch, records))
        for mask in range(masks):
            hidden_BxTxU = heldout.hidden[rows, mask]
            told = np.asarray(_predict(model, params, place_batch(ecg_BxSxE), place_batch(hidden_BxTxU)))
            error_BxSxI = told.reshape(x_BxSxI.shape) - x_BxSxI
            scored_BxTxI = hidden_BxTxU[:, :, masked.UNIT_OF_TARGET]
            scored_BxSxI = np.repeat(scored_BxTxI, x_BxSxI.shape[1] // patches, axis=1) & held_Bx1xI
            for number in range(len(PARTS)):
                of_part = scored_BxSxI & (part_RxS[rows] == number)[..., None]
                for place, values in enumerate((error_BxSxI**2, np.abs(error_BxSxI), np.ones_like(error_BxSxI))):
                    found = (values * of_part).sum(axis=1, dtype=np.float64)
                    sums[place, own, number] += found[: own.stop - own.start]
    squares, absolute, count = sums
    return Taken(squares, absolute, count, heldout.pool.patient_id)


@functools.partial(jax.jit, static_argnums=0)
def _predict(model: Model, params: Params, ecg_BxSxE: jax.Array, hidden_BxTxU: jax.Array) -> jax.Array:
    x_BxSxE = normalise(ecg_BxSxE)
    return model.apply(params, x_BxSxE, masked.visible(x_BxSxE, hidden_BxTxU))


def parts_table(taken: Taken, groups: Mapping[str, np.ndarray] | None = None) -> pd.DataFrame:
    """Losses by lead, part and group of patients (`groups`: bits per record, by name), squared and absolute: columns
    `of, metric, value, low, high, patients`. A normal interval over patients always stands beside."""
    rows = []
    cuts = [("", ""), *((part, "") for part in PARTS), *(("", lead) for lead in INDEPENDENT_LEADS)]
    for absolute in (False, True):
        metric = "absolute error" if absolute else "loss"
        for part, lead in cuts:
            losses = taken.by_patient(part=part, lead=lead, absolute=absolute)
            rows.append(_row(part or lead or "all", metric, losses))
        for name, among_R in (groups or {}).items():
            among = Taken(*(of[among_R] for of in (taken.squares, taken.absolute, taken.count, taken.patient_R)))
            rows.append(_row(name, metric, among.by_patient(absolute=absolute)))
    return pd.DataFrame(rows, columns=["of", "metric", "value", "low", "high", "patients"])


def _row(of: str, metric: str, losses: pd.Series) -> tuple[str, str, float, float, float, int]:
    found = mean_over_patients(losses)
    return of, metric, found.value, found.low, found.high, len(losses)


def compare(ours: Taken, other: Taken, *, part: str = "", lead: str = "") -> tuple[float, float, float]:
    """ln of our loss over the other's, patient by patient, with its interval: the same records and masks for both.

    Raises ValueError for other patients.
    """
    a, b = (taken.by_patient(part=part, lead=lead) for taken in (ours, other))
    if not a.index.equals(b.index):
        raise ValueError(f"{len(a)} and {len(b)} patients, which are not the same: compare on one set of records")
    ratio = mean_over_patients(np.log(a) - np.log(b))
    return ratio.value, ratio.low, ratio.high
