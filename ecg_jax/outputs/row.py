"""The row of a run: every axis a column, nothing to be parsed out of a name."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd

from ecg_jax import objectives
from ecg_jax.config import RunConfig, mixture_of
from ecg_jax.data.ecg import RecordPool
from ecg_jax.data.mixture import counts
from ecg_jax.evaluate.heldout import PRE_TRANSITION
from ecg_jax.scaling.flops import parameters, train_flops_per_record


def sources(config: RunConfig, pool: RecordPool) -> pd.DataFrame:
    """What each real source gives a run that draws from `pool`: a row per source with its records and patients, how
    many records the run sees of it, counted exactly, and how often it sees each (`epochs`)."""
    seen = counts(mixture_of(config, pool), config.budget_records)[1:] if config.data.ratio else (0,) * len(pool.parts)
    return pd.DataFrame(
        [
            {
                "run_id": config.run_id,
                "source": part.source,
                "records": len(part.rows),
                "patients": len(np.unique(pool.patient_id[part.rows])),
                "seen": count,
                "epochs": count / len(part.rows),
            }
            for part, count in zip(pool.parts, seen, strict=True)
        ]
    )


def row(
    config: RunConfig,
    pool: RecordPool,
    *,
    loss: float,
    references: dict[str, float],
    diverged: str = "",
) -> dict[str, Any]:
    """The axes of a run that draws from `pool`, and its response.

    The unique counts are those of the pool behind a stream, not of the records seen of it: a run that saw half an epoch
    has `epochs_real` 0.5. `diverged` says how a run diverged, "" if it did not, and becomes the column `message`;
    the column `exclusion` says why a fit must leave the row out, "" if it need not. `skill` and `pre_transition` stand
    on `objectives.Task.share` of the reference lines; `log_loss` is None for a log likelihood that is not positive.
    """
    c, records = config, config.budget_records
    real_seen = records * c.data.ratio.numerator // c.data.ratio.denominator
    synthetic_seen = records - real_seen
    finite = math.isfinite(loss)
    if not finite and not diverged:
        diverged = f"the held-out loss became {loss}"
    shares = {name: objectives.of(c.objective).share(loss, references[f"loss_{name}"]) for name in ("mean", "linear")}
    pre_transition = finite and not diverged and shares["mean"] > PRE_TRANSITION
    return {
        **_model_columns(c),
        "records_seen": records,
        "tokens_seen": records * c.model.tokens_per_record,
        "train_flops": records * train_flops_per_record(c.model),
        "real_fraction": c.data.real_fraction,
        "mixing": c.data.mixing.value,
        "real_seen": real_seen,
        "unique_real_patients": len(np.unique(pool.patient_id)) if real_seen else 0,
        "unique_real_records": len(pool) if real_seen else 0,
        "unique_synthetic_records": (c.data.synthetic_records or synthetic_seen) if synthetic_seen else 0,
        "epochs_real": real_seen / len(pool),
        "epochs_synthetic": synthetic_seen / c.data.synthetic_records if c.data.synthetic_records else 0.0,
        "pool_shuffle": c.data.pool_shuffle,
        "tier": c.data.tier,
        "real_information": c.data.real_information,
        "real_source": c.data.real_source,
        "synthetic_source": c.data.synthetic_source,
        **_training_columns(c),
        "loss": loss if finite else None,
        "log_loss": math.log(loss) if finite and loss > 0 else None,
        "skill": 1 - shares["linear"] if finite else None,
        **references,
        "pre_transition": pre_transition,
        "diverged": bool(diverged),
        "exclusion": "diverged" if diverged else "pre_transition" if pre_transition else "",
        "message": diverged,
    }


def _model_columns(c: RunConfig) -> dict[str, Any]:
    size = parameters(c.model)
    return {
        "run_id": c.run_id,
        "trunk_id": c.trunk_id,
        "study": c.study,
        "n_params": size.blocks,
        "n_params_total": size.total,
        "width": c.model.width,
        "depth": c.model.depth,
        "heads": c.model.heads,
        "position": c.model.position.value,
        "tokens": c.model.tokens.value,
        "parametrisation": c.model.parametrisation.value,
        "precision": c.model.precision.value,
        "optimiser": c.optim.optimiser.value,
    }


def _training_columns(c: RunConfig) -> dict[str, Any]:
    return {
        "branch_step": c.branch_step,
        "batch_records": c.batch_records,
        "learning_rate": c.optim.learning_rate,
        "weight_decay": c.optim.weight_decay,
        "warmup_records": c.optim.warmup_records,
        "cooldown_fraction": c.optim.cooldown_fraction,
        "gradient_clip": c.optim.gradient_clip,
        "sample_rate_hz": c.data.sample_rate_hz,
        "patch_ms": round(1000 * c.model.patch_samples / c.data.sample_rate_hz),
        "mask_ratio": c.mask_ratio,
        "objective": c.objective.value,
        "architecture": c.model.architecture.value,
        "response": c.response,
        "seed": c.seed,
    }
