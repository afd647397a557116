"""How well boundaries of waves are found: errors of onsets and ends, sensitivity and precision, by wave.

A boundary is found when one of its kind lies within 150 ms (AAMI EC57's window for beats, which delineators are judged
by); each is matched once, nearest pairs first. Annotators of LUDB mark the middle of a record only: what is found
outside the first and last annotation counts neither way.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from ecg_jax.evaluate.question import check_split

TOLERANCE_S = 0.15
WAVES, BOUNDARIES = ("P", "QRS", "T"), ("onset_s", "offset_s")
COLUMNS = ("wave", "boundary", "mean_ms", "sd_ms", "sensitivity", "precision", "annotated", "found")


def match(found_F: np.ndarray, true_T: np.ndarray, tolerance_s: float = TOLERANCE_S) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of boundaries no further apart than the tolerance, nearest first, each in one pair: indices of both."""
    apart_FxT = np.abs(found_F[:, None] - true_T[None])
    pairs: list[tuple[int, int]] = []
    used_f, used_t = set(), set()
    for flat in np.argsort(apart_FxT, axis=None, kind="stable"):
        f, t = (int(index) for index in np.unravel_index(flat, apart_FxT.shape))
        if apart_FxT[f, t] > tolerance_s + 1e-9:
            break
        if f not in used_f and t not in used_t:
            used_f.add(f)
            used_t.add(t)
            pairs.append((f, t))
    both = np.array(pairs, int).reshape(-1, 2)
    return both[:, 0], both[:, 1]


def boundary_figures(found: pd.DataFrame, annotated: pd.DataFrame) -> pd.DataFrame:
    """Figures by wave and boundary, over all records and leads together, `COLUMNS`.

    Both tables have `record_id, lead, wave, onset_s, offset_s`; NaN is no boundary. Leads and records without an
    annotation are not scored. Raises ValueError where nothing is annotated.
    """
    if not len(annotated):
        raise ValueError("no wave is annotated: nothing can be scored")
    groups = dict(list(found.groupby(["record_id", "lead"])))
    tally: dict[tuple[str, str], list[tuple[np.ndarray, int, int]]] = {}
    for key, true in annotated.groupby(["record_id", "lead"]):
        first_s, last_s = np.nanmin(true[list(BOUNDARIES)]), np.nanmax(true[list(BOUNDARIES)])
        ours = groups.get(key, found.iloc[:0])
        for wave in WAVES:
            for boundary in BOUNDARIES:
                true_T, found_F = (table[table["wave"] == wave][boundary].dropna().to_numpy() for table in (true, ours))
                f, t = match(found_F, true_T)
                outside = (found_F < first_s) | (found_F > last_s)
                outside[f] = False
                counted = len(found_F) - int(outside.sum())
                tally.setdefault((wave, boundary), []).append((found_F[f] - true_T[t], len(true_T), counted))
    return pd.DataFrame([_figures(*key, parts) for key, parts in tally.items()], columns=list(COLUMNS))


def _figures(wave: str, boundary: str, parts: list[tuple[np.ndarray, int, int]]) -> tuple[object, ...]:
    error_ms = 1e3 * np.concatenate([errors for errors, _, _ in parts])
    annotated, counted = (sum(part[place] for part in parts) for place in (1, 2))
    mean, sd = (float(error_ms.mean()), float(error_ms.std())) if len(error_ms) else (np.nan, np.nan)
    sensitivity = len(error_ms) / annotated if annotated else np.nan
    precision = len(error_ms) / counted if counted else np.nan
    return wave, boundary, mean, sd, sensitivity, precision, annotated, counted


def fit_sample_map(
    token_NxLxD: np.ndarray,
    part_NxS: np.ndarray,
    patient_N: np.ndarray,
    scored_patient_M: np.ndarray,
    ridge: float = 1.0,
) -> np.ndarray:
    """The linear map from a token to the part of the beat of each of its samples, `(D + 1, samples x parts)`, by ridge
    regression on standardised indicators; samples of part -1, where nobody looked, tell nothing.

    Raises ValueError where a patient is fitted and scored, or samples do not divide into tokens.
    """
    check_split(patient_N, scored_patient_M)
    records, tokens, width = token_NxLxD.shape
    if part_NxS.shape[1] % tokens:
        raise ValueError(f"{part_NxS.shape[1]} samples do not divide into {tokens} tokens")
    samples = part_NxS.shape[1] // tokens
    x_KxD = np.append(token_NxLxD.reshape(-1, width), np.ones((records * tokens, 1)), axis=1).astype(np.float64)
    part_KxP = part_NxS.reshape(-1, samples)
    parts = int(part_NxS.max()) + 1
    columns = []
    for sample in range(samples):
        known = part_KxP[:, sample] >= 0
        x = x_KxD[known]
        target = np.eye(parts)[part_KxP[known, sample]]
        penalty = ridge * np.append(np.ones(width), 0.0)
        columns.append(np.linalg.solve(x.T @ x + np.diag(penalty), x.T @ target))
    return np.stack(columns, axis=1).reshape(width + 1, samples * parts)
