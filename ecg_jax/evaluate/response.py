"""What runs are judged by, and what must fit together before one starts."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from ecg_jax import objectives
from ecg_jax.config import Objective, RunConfig
from ecg_jax.data.ecg import RecordPool, Rows, Source
from ecg_jax.data.real.quality.leakage import find_matches
from ecg_jax.evaluate import heldout as held
from ecg_jax.files.whole_file import read_json, write_json
from ecg_jax.objectives import HeldOut

#: Likeness from which a training record is a held-out recording beyond doubt, and a study is stopped for it; studies
#: leave records out from less on (`leakage.THRESHOLD`), and by name.
SURE = 0.97
#: The same for records that are said to be synthetic, which are let pass unless they are a copy.
COPY = 0.998
#: Pairs of arrays that were compared, held so that no other array gets their place in memory.
_COMPARED: list[tuple[np.ndarray | Rows, np.ndarray | Rows, float]] = []
_REMEMBERED = 8


@dataclasses.dataclass(frozen=True)
class Response:
    """Frozen records and masks, and the losses of the reference lines on them.

    `references` become columns of every row: `loss_mean` and `loss_linear` under all masks, and `curve_loss_mean` and
    `curve_loss_linear` under the first mask of each record, which learning curves are measured with.
    """

    heldout: HeldOut
    references: dict[str, float]
    objective: Objective = Objective.MASKED


def check_response(config: RunConfig, response: Response) -> None:
    """Raises ValueError when a run is to be judged by another response."""
    patches = response.heldout.hidden.shape[2]
    if patches != config.model.patches or response.heldout.identity != config.response:
        raise ValueError(
            f"run {config.run_id} is to be judged by response {config.response!r} in {config.model.patches} patches, "
            f"but was given {response.heldout.identity!r} in {patches}"
        )
    if response.objective is not config.objective:
        raise ValueError(
            f"run {config.run_id} is trained for {config.objective}, but its response and reference lines are those of "
            f"{response.objective}: freeze the records, and make the response, for the run's own objective"
        )


def signals_kept(folder: Path, responses: Iterable[Response]) -> str:
    """Keeps in `folder` what tells the signals that a study's losses are measured on; returns what is wrong, in one
    sentence, where those of an earlier start were others under the same names, and "" otherwise."""
    for response in responses:
        path, pool = folder / f"{response.heldout.identity}.json", response.heldout.pool
        if not path.exists():
            write_json(path, {"sketches": held.sketches(pool)})
        elif other := held.differing(pool, read_json(path).get("sketches", ())):
            return (
                f"{len(other)} of {len(pool)} held-out records, such as {other[0]}, are not the recordings that this "
                f"study's losses were measured on ({path}): give it the data that it began with, or another --out"
            )
    return ""


def check_apart(training: RecordPool, heldout: HeldOut) -> None:
    """Raises ValueError, by name, where a patient or a recording stands both in training and among the held-out ones.

    A recording is known by its signal. Compared once for the same arrays.
    """
    shared = set(heldout.pool.patient_id.tolist()) & set(training.patient_id.tolist())
    if shared:
        raise ValueError(
            f"{len(shared)} patients stand both in training and among the held-out records, "
            f"such as {sorted(shared)[0]}: split by patient"
        )
    _check_signals("training", training, heldout.pool, SURE)


def check_held_out(real: RecordPool, synthetic: Mapping[str, Source], response: Response) -> None:
    """Raises ValueError where real or stored synthetic records hold what the response is measured on; see
    `check_apart`. What a generator renders holds no recording."""
    check_apart(real, response.heldout)
    for name, source in synthetic.items():
        if isinstance(source, RecordPool):
            _check_signals(f"the synthetic pool {name!r}", source, response.heldout.pool, COPY)


def _check_signals(where: str, training: RecordPool, heldout: RecordPool, threshold: float) -> None:
    if any(a is training.ecg and b is heldout.ecg and known == threshold for a, b, known in _COMPARED):
        return
    if training.ecg.shape[1] * heldout.sample_rate_hz == heldout.ecg.shape[1] * training.sample_rate_hz:
        matches = find_matches(training, training.sample_rate_hz, heldout, heldout.sample_rate_hz, threshold=threshold)
        if matches:
            first = matches[0]
            raise ValueError(
                f"{len({match.first for match in matches})} records of {where} are held-out recordings under other "
                f"names, such as {training.record_id[first.first]}, which is {heldout.record_id[first.second]} "
                f"(likeness {first.similarity:.4f}): leave them out (data.real.quality.leakage.without_evaluation)"
            )
    _COMPARED.append((training.ecg, heldout.ecg, threshold))
    del _COMPARED[:-_REMEMBERED]


def response_of(heldout: HeldOut, training: RecordPool, objective: Objective = Objective.MASKED) -> Response:
    """The response on frozen records, with its objective's reference lines fitted to the training records.

    Raises ValueError when a patient or a recording stands on both sides.
    """
    check_apart(training, heldout)
    task = objectives.of(objective)
    errors = {"mean": task.mean_errors(heldout), "linear": task.linear_errors(heldout, training)}
    references = {f"loss_{name}": held.overall(of, heldout) for name, of in errors.items()}
    references |= {f"curve_loss_{name}": held.overall(of[:, :1], heldout) for name, of in errors.items()}
    return Response(heldout, references, objective)
