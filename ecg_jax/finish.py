"""What a finished run leaves in its store: tables, an encoder where it is kept, and its record, last."""

from __future__ import annotations

from typing import Any

import numpy as np

from ecg_jax.card import CardFacts
from ecg_jax.config import RunConfig
from ecg_jax.curve import CURVE, curve_text, curve_until, points
from ecg_jax.data.ecg import RecordPool
from ecg_jax.encoder import export_encoder
from ecg_jax.evaluate import heldout as held
from ecg_jax.files import write_json, write_text
from ecg_jax.finished import CONFIG, PATIENTS, SOURCES, write_record
from ecg_jax.log import LOG, read_metrics
from ecg_jax.models import Params
from ecg_jax.record import row, sources
from ecg_jax.response import Response
from ecg_jax.store import Store
from ecg_jax.store_.segments import read_segments


def write_run(
    store: Store,
    config: RunConfig,
    pool: RecordPool,
    response: Response,
    *,
    errors_RxM: np.ndarray | None,
    diverged: str,
    machine: dict[str, Any],
    params: Params | None,
) -> dict[str, Any]:
    """Writes a run that draws from `pool`, and returns its record.

    `errors_RxM` is None, and `diverged` says why, where it diverged; `machine` are the columns that tell of the
    machine; `params` is None where no encoder is kept.
    """
    folder, heldout = store.run(config), response.heldout
    errors = np.full(heldout.hidden.shape[:2], np.nan) if errors_RxM is None else errors_RxM
    patients = held.per_patient(errors, heldout)
    patients.insert(0, "run_id", config.run_id)
    write_json(folder / CONFIG, config.stored())
    write_text(folder / PATIENTS, patients.to_csv(index=False, lineterminator="\n"))
    write_text(folder / SOURCES, sources(config, pool).to_csv(index=False, lineterminator="\n"))
    trunk = store.trunk(config)
    curve = curve_text(config, points(read_metrics(trunk / LOG)))
    write_text(trunk / CURVE, curve)
    segments = read_segments(trunk)
    write_json(folder / "segments.json", segments)
    loss = held.overall(errors, heldout)
    record = row(config, pool, loss=loss, references=response.references, diverged=diverged)
    record |= machine | {"segments": len(segments)}
    if params is not None and not record["diverged"]:
        export_encoder(store.encoder(config), config, params, CardFacts(record, pool, heldout.pool))
    write_record(folder, record, curve=curve_until(curve, config.branch_step))
    return record
