"""One trunk and the runs that branch from it.

The trunk trains at a stable rate; at each run's branch point it is saved, the run cools down from there, is
evaluated on the frozen records, and gets its record. Killed at any moment and started again, it goes on from the last
checkpoint and ends with the same numbers.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd

from ecg_jax import optim
from ecg_jax.card import CardFacts
from ecg_jax.checkpoint import Checkpoints, abstract
from ecg_jax.config import RunConfig, to_json
from ecg_jax.data.ecg import RecordPool, Source
from ecg_jax.data.mixture import Mixture, batches
from ecg_jax.data.synthetic.information import identify
from ecg_jax.encoder import export_encoder
from ecg_jax.evaluate import heldout as held
from ecg_jax.mesh import check_batch, host_slice
from ecg_jax.record import row
from ecg_jax.store import MetricsLog, Store, read_metrics, write_json, write_text
from ecg_jax.train import DivergedError, Program, TrainState, program, train


@dataclasses.dataclass(frozen=True)
class TrainingData:
    """The sources that runs draw from: all real training records, and the synthetic source."""

    real: RecordPool
    synthetic: Source

    def pool(self, config: RunConfig) -> RecordPool:
        """The real records of a run: all, or its first patients."""
        if config.data.real_patients is None:
            return self.real
        return self.real.first_patients(config.data.real_patients, config.data.pool_shuffle)


@dataclasses.dataclass(frozen=True)
class Response:
    """What runs are judged by: frozen records and masks, and the losses of the reference lines on them.

    `references` become columns of every row: `loss_mean` and `loss_linear` under all masks, and `curve_loss_mean` and
    `curve_loss_linear` under the first mask of each record, which learning curves are measured with.
    """

    heldout: held.HeldOut
    references: dict[str, float]


#: A trunk is saved at its branch points and, where these lie far apart, every so many steps after so long a time.
SAVE_STEPS, SAVE_SECONDS = 500, 60.0

#: Hears of every finished step: config, step, training loss.
OnStep = Callable[[RunConfig, int, float], None]
#: Hears of every finished run: config and record.
OnRun = Callable[[RunConfig, dict[str, Any]], None]
#: Whether the weights of a run are kept, as an encoder.
Keep = Callable[[RunConfig], bool]


def mixture_of(config: RunConfig, pool: RecordPool) -> Mixture:
    """The mixture of a run over its pool."""
    return Mixture(
        seed=config.seed,
        batch_records=config.batch_records,
        ratio=config.data.ratio,
        real_records=(len(pool),),
        synthetic_records=config.data.synthetic_records,
    )


def curve_steps(last: int) -> list[int]:
    """Steps at which the trunk is evaluated: a half-octave grid that no budget changes, up to `last`."""
    return sorted({round(2 ** (j / 2)) for j in range(6, 80) if round(2 ** (j / 2)) <= last})


def run_trunk(
    store: Store,
    configs: Sequence[RunConfig],
    data: TrainingData,
    response: Response,
    *,
    keep: Keep = lambda config: False,
    on_step: OnStep = lambda config, step, loss: None,
    on_run: OnRun = lambda config, record: None,
) -> None:
    """Does every run of one trunk that is not done yet, smallest budget first. Needs a mesh in force.

    A run whose loss becomes non-finite is evaluated, recorded as diverged, and so are the runs that would branch later.
    Runs that `keep` asks for and that did not diverge leave their encoder; one that is done already is not done again.
    """
    configs = sorted(configs, key=lambda c: c.budget_records)
    if len({c.trunk_id for c in configs}) != 1:
        raise ValueError(f"{len({c.trunk_id for c in configs})} trunks given, expected the runs of one")
    left = [config for config in configs if not store.is_done(config)]
    if left:
        check_batch(left[0].batch_records)
        _check_information(left[0], data)
        _check_response(left[0], response)
        write_json(store.trunk(left[0]) / "config.json", to_json(left[0]))
        with Checkpoints(store.trunk(left[0]) / "checkpoints") as checkpoints:
            _Trunk(store, left, data, response, checkpoints, keep, on_step, on_run).run()


def _check_response(config: RunConfig, response: Response) -> None:
    patches = response.heldout.hidden.shape[2]
    if patches != config.model.patches or response.heldout.identity != config.response:
        raise ValueError(
            f"run {config.run_id} is to be judged by response {config.response!r} in {config.model.patches} patches, "
            f"but was given {response.heldout.identity!r} in {patches}"
        )


def _check_information(config: RunConfig, data: TrainingData) -> None:
    """Refuses a run whose synthetic data know more of real recordings than it says, or than the pool they mix with."""
    known, pool = config.data.real_information, data.pool(config)
    own = getattr(data.synthetic, "real_information", known)  # a pool of records knows nothing of its own
    if own != known:
        raise ValueError(f"run {config.run_id} says its synthetic records know {known!r}; their source knows {own!r}")
    if config.data.real_fraction > 0 and known.startswith("pool ") and known != identify(pool).real_information:
        raise ValueError(
            f"run {config.run_id} mixes {identify(pool).real_information} with synthetic records whose priors were "
            f"fitted to {known}: fit them to the run's own pool"
        )


class _Trunk:
    """The state of one call of `run_trunk`."""

    def __init__(
        self,
        store: Store,
        left: list[RunConfig],
        data: TrainingData,
        response: Response,
        checkpoints: Checkpoints,
        keep: Keep,
        on_step: OnStep,
        on_run: OnRun,
    ):
        self.store, self.left, self.response, self.checkpoints = store, left, response, checkpoints
        self.keep, self.on_step, self.on_run = keep, on_step, on_run
        self.config = left[-1]
        self.folder = store.trunk(self.config)
        self.program: Program = program(self.config)
        self.pool, self.synthetic = data.pool(self.config), data.synthetic
        self.began = time.perf_counter()
        _append_segment(self.folder)

    def run(self) -> None:
        """Trains the trunk from branch point to branch point."""
        state = self._restore()
        step = int(state.step)
        branches = {config.branch_step for config in self.left}
        last = max(branches)
        # The point at a checkpointed step is logged before the save, so a later start finds it there.
        curve = {s for s in curve_steps(last) if s > step}
        log = MetricsLog(self.folder / "metrics.jsonl", max(self.checkpoints.steps, default=0))
        stream = self._batches(range(step, last))
        stops = sorted({*curve, *range(step + SAVE_STEPS, last, SAVE_STEPS), *(s for s in branches if s >= step)})
        saved = time.monotonic()
        try:
            self._raise_if_diverged(state)
            for stop in stops:
                state = self._train(state, itertools.islice(stream, stop - step), log, optim.trunk_rate, self.config)
                step = stop
                if stop in curve:
                    log.add(step - 1, {"eval/heldout/loss": self._loss(state, masks=1)})
                if stop in branches or time.monotonic() - saved > SAVE_SECONDS:
                    log.flush()
                    self.checkpoints.save(step, state)
                    saved = time.monotonic()
                for config in (c for c in self.left if c.branch_step == stop):
                    self._cool_down(config, state)
        except DivergedError as error:
            log.flush()
            self.checkpoints.save(int(error.state.step), error.state)
            for config in (c for c in self.left if not self.store.is_done(c)):
                self._finish(config, error.state, diverged=str(error))

    def _raise_if_diverged(self, state: TrainState) -> None:
        """A trunk that diverged, and was killed before all its runs had their records, diverged at that step."""
        for line in read_metrics(self.folder / "metrics.jsonl"):
            if not math.isfinite(line.get("train/loss", 0.0)) and line["step"] < int(state.step):
                raise DivergedError(line["step"], line["train/loss"], state)

    def _restore(self) -> TrainState:
        """The newest saved state from which every run that is left can still branch, or a new one."""
        state = self.program.init(self.config.seed)
        first = min(config.branch_step for config in self.left)
        usable = [step for step in self.checkpoints.steps if step <= first]
        return self.checkpoints.restore(max(usable), abstract(state)) if usable else state

    def _batches(self, steps: range) -> Iterator[np.ndarray]:
        part = host_slice(self.config.batch_records)
        return batches(mixture_of(self.config, self.pool), self.synthetic, [self.pool], steps, part)

    def _train(
        self,
        state: TrainState,
        stream: Iterator[np.ndarray],
        log: MetricsLog,
        rate: Callable[[RunConfig, int], float],
        config: RunConfig,
    ) -> TrainState:
        def heard(step: int, metrics: dict[str, float]) -> None:
            log.add(step, metrics)
            self.on_step(config, step, metrics["train/loss"])

        return train(self.program, state, stream, lambda step: rate(config, step), on_step=heard)

    def _cool_down(self, config: RunConfig, trunk_state: TrainState) -> None:
        """Takes a run from its branch point to the end of its budget."""
        log = MetricsLog(self.store.run(config) / "metrics.jsonl", 0)
        state = jax.tree.map(jnp.copy, trunk_state)  # the train step consumes its argument
        stream = self._batches(range(config.branch_step, config.budget_steps))
        diverged = ""
        try:
            state = self._train(state, stream, log, optim.branch_rate, config)
        except DivergedError as error:
            state, diverged = error.state, str(error)
        log.flush()
        self._finish(config, state, diverged=diverged)

    def _finish(self, config: RunConfig, state: TrainState, *, diverged: str) -> None:
        """Evaluates a run and writes its record, last."""
        folder, heldout = self.store.run(config), self.response.heldout
        errors = held.model_errors(self.program.model, state.params, heldout, objective=config.objective)
        patients = held.per_patient(errors, heldout)
        patients.insert(0, "run_id", config.run_id)
        write_json(folder / "config.json", to_json(config))
        write_text(folder / "patients.csv", patients.to_csv(index=False, lineterminator="\n"))
        self._write_curve()
        segments = read_metrics(self.folder / "segments.jsonl")
        record = row(
            config,
            self.pool,
            loss=held.overall(errors, heldout),
            references=self.response.references,
            diverged=diverged,
        )
        now = time.perf_counter()
        record |= {"seconds": round(now - self.began, 2), "segments": len(segments)}
        self.began = now
        write_json(folder / "segments.json", segments)
        if self.keep(config) and not record["diverged"]:
            facts = CardFacts(record, self.pool, heldout.pool)
            export_encoder(self.store.encoder(config), config, state.params, facts)
        write_json(folder / "record.json", record)
        self.on_run(config, record)

    def _loss(self, state: TrainState, masks: int | None = None) -> float:
        heldout = self.response.heldout
        objective = self.config.objective
        errors = held.model_errors(self.program.model, state.params, heldout, objective=objective, masks=masks)
        return held.overall(errors, heldout)

    def _write_curve(self) -> None:
        """The trunk's learning curve, at the stable rate, under the first frozen mask of every record."""
        lines = read_metrics(self.folder / "metrics.jsonl")
        points = {line["step"] + 1: line["eval/heldout/loss"] for line in lines if "eval/heldout/loss" in line}
        frame = pd.DataFrame(
            {
                "trunk_id": self.config.trunk_id,
                "records_seen": [step * self.config.batch_records for step in points],
                "loss": list(points.values()),
            }
        )
        write_text(self.folder / "curve.csv", frame.to_csv(index=False, lineterminator="\n"))


def _append_segment(folder: Path) -> None:
    """Notes the hardware and versions under which this part of the trunk ran: no part of its identity."""
    device = jax.devices()[0]
    segment = {
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "platform": device.platform,
        "device": device.device_kind,
        "devices": jax.device_count(),
        "hosts": jax.process_count(),
        "python": platform.python_version(),
        "jax": jax.__version__,
    }
    path = folder / "segments.jsonl"
    write_text(path, "".join(json.dumps(line) + "\n" for line in [*read_metrics(path), segment]))
