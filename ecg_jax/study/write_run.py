"""What a finished run leaves in its store: tables, an encoder where it is kept, and its record, last."""

from __future__ import annotations

import platform
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np

from ecg_jax.config import RunConfig
from ecg_jax.data.ecg import RecordPool
from ecg_jax.distributed.backend import is_deterministic
from ecg_jax.encoder import export_encoder
from ecg_jax.evaluate import heldout as held
from ecg_jax.evaluate.response import Response
from ecg_jax.files.whole_file import jsonl, write_json, write_text
from ecg_jax.models import Params
from ecg_jax.outputs.model_card import CardFacts, model_card
from ecg_jax.outputs.row import row, sources
from ecg_jax.store.curve import CURVE, curve_text, curve_until, points
from ecg_jax.store.finished import CONFIG, PATIENTS, SOURCES, write_record
from ecg_jax.store.layout import Store
from ecg_jax.store.metrics_log import LOG, read_metrics
from ecg_jax.store.segments import SEGMENTS, STAMP, read_segments


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
        card = model_card(config, CardFacts(record, pool, heldout.pool))
        export_encoder(store.encoder(config), config, params, card)
    write_record(folder, record, curve=curve_until(curve, config.branch_step))
    return record


def append_segment(folder: Path) -> None:
    """Notes the hardware and versions under which this part of a trunk ran: no part of its identity."""
    device = jax.devices()[0]
    segment = {
        "started": time.strftime(STAMP, time.gmtime()),
        "platform": device.platform,
        "device": device.device_kind,
        "devices": jax.device_count(),
        "hosts": jax.process_count(),
        "python": platform.python_version(),
        "jax": jax.__version__,
        "deterministic": is_deterministic(),
    }
    write_text(folder / SEGMENTS, jsonl([*read_segments(folder), segment]))
