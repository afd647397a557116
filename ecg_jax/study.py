"""Doing a study: every run of it that is not done yet, trunk by trunk, with progress."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence

import jax

from ecg_jax.config import Objective, RunConfig
from ecg_jax.data.ecg import RecordPool
from ecg_jax.evaluate import heldout as held
from ecg_jax.evaluate import references as lines
from ecg_jax.mesh import make_mesh
from ecg_jax.progress import StudyProgress
from ecg_jax.store import Store
from ecg_jax.sweep import trunks
from ecg_jax.trunk import Keep, Response, TrainingData, run_trunk


def response_of(heldout: held.HeldOut, training: RecordPool, objective: Objective = Objective.MASKED) -> Response:
    """The response on frozen records, with its objective's reference lines fitted to the training records.

    Raises ValueError when a patient stands on both sides.
    """
    shared = set(heldout.pool.patient_id) & set(training.patient_id)
    if shared:
        raise ValueError(
            f"{len(shared)} patients stand both in training and among the held-out records, "
            f"such as {sorted(shared)[0]}: split by patient"
        )
    errors = {
        "mean": lines.mean_errors(heldout, objective),
        "linear": lines.linear_errors(heldout, training, objective),
    }
    references = {f"loss_{name}": held.overall(of, heldout) for name, of in errors.items()}
    references |= {f"curve_loss_{name}": held.overall(of[:, :1], heldout) for name, of in errors.items()}
    return Response(heldout, references)


def run_study(
    store: Store,
    targets: Sequence[RunConfig],
    data: TrainingData,
    responses: Mapping[str, Response],
    *,
    keep: Keep = lambda config: False,
) -> None:
    """Does the runs of `targets` that are not done. `responses` maps `RunConfig.response` to what it names, and `keep`
    says which runs leave their encoder.

    Sets the mesh over all devices. Raises RuntimeError on several hosts: a store has one writer.
    """
    if jax.process_count() > 1:
        raise RuntimeError(f"{jax.process_count()} processes: a study's store has one writer; start one process")
    # Orbax tells of every save at this level; progress is told by the bars.
    logging.getLogger("absl").setLevel(logging.ERROR)
    done = [target for target in targets if store.is_done(target)]
    evaluations = max(math.prod(response.heldout.hidden.shape[:2]) for response in responses.values())
    with jax.set_mesh(make_mesh()), StudyProgress(targets, done, evaluations) as progress:
        if done:
            progress.say(f"{len(done)} of {len(targets)} runs are done already: going on with the rest")
        for group in trunks(targets):
            run_trunk(
                store,
                group,
                data,
                responses[group[0].response],
                keep=keep,
                on_step=progress.on_step,
                on_run=progress.on_run,
            )
