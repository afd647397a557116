"""What a short training makes of a real held-out record, per objective: a figure to be looked at, no result.

COMMAND  python -m experiments.reconstruct --data-dir DIR
Trains one model per objective on PTB-XL folds 1-8 alone, then draws one record of fold 9: the hidden cells as the two
masked objectives fill them in, and every patch as the next-patch objective expects it from those before, mean and
deviation. Fold 10 is not read. Hardware and times: results/objectives/README.md.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from rich.console import Console

from ecg_jax import objectives
from ecg_jax.config import DataConfig, Objective, RunConfig
from ecg_jax.data.ecg import INDEPENDENT_LEAD_INDICES, INDEPENDENT_LEADS, RecordPool, normalise
from ecg_jax.distributed.mesh import make_mesh, place_batch
from ecg_jax.evaluate.heldout import HeldOut, freeze, model_errors, overall
from ecg_jax.evaluate.response import response_of
from ecg_jax.files.whole_file import whole_file, write_text
from ecg_jax.models import Params
from ecg_jax.objectives import masked
from ecg_jax.scaling import ladder
from ecg_jax.scaling.flops import parameters
from ecg_jax.terminal.command import command
from ecg_jax.terminal.stage import STDERR, Stage
from ecg_jax.train import schedule
from ecg_jax.train.input_pipeline import Placement, feed_of
from ecg_jax.train.loop import train
from ecg_jax.train.step import member, program
from ecg_jax.train.training_data import TrainingData
from experiments.protocol.data import load_real, tell_left_out
from experiments.protocol.options import add_data_dir, add_results, real_data_dir

SECONDS, OFFSET_SD = 5, 7.0


def config_of(objective: Objective, size: int, records: int, source: str) -> RunConfig:
    """A run on real records alone, at the ladder's rate."""
    return RunConfig(
        study="reconstruct",
        model=ladder.model_config(size, objective=objective),
        data=DataConfig(real_fraction=1.0, real_source=source, synthetic_source="none"),
        optim=ladder.optim_config(),
        budget_records=records,
        mask_ratio=objectives.of(objective).ratio,
        objective=objective,
    )


def fitted(config: RunConfig, pool: RecordPool) -> Params:
    """The parameters at the end of a run over `pool`. Needs a mesh in force."""
    run, feed = program(config), feed_of([config], TrainingData(pool, {}), Placement.HOST)
    state, decay = run.init(np.array([config.seed])), np.array([config.optim.weight_decay])
    batches = feed.batches(range(config.budget_steps))
    state = train(run, state, batches, lambda step: np.array([schedule.branch_rate(config, step)]), decay)
    return member(state.params, 0)


def prediction(config: RunConfig, params: Params, heldout: HeldOut, row: int) -> tuple[np.ndarray, np.ndarray]:
    """What the model expects of the independent leads of a held-out record, and its deviation (0 where the read-out
    gives none), both `(S, 8)`; NaN where nothing was asked. Needs a mesh in force."""
    x_1xSxE, hidden_1xTxU = place_batch(normalise(heldout.pool.ecg[[row]])), place_batch(heldout.hidden[[row], 0])
    apply = jax.jit(program(config).model.apply)
    out = np.asarray(apply(params, x_1xSxE, masked.visible(x_1xSxE, hidden_1xTxU)))[0]
    mean, deviation = objectives.of(config.objective).expected(out, heldout.hidden[row, 0])
    shape = (config.model.samples, len(INDEPENDENT_LEADS))
    return mean.reshape(shape), deviation.reshape(shape)


def draw(axes: Axes, target_SxI: np.ndarray, mean_SxI: np.ndarray, deviation_SxI: np.ndarray, rate_hz: int) -> None:
    """The leads of one record below each other; what was asked for is shaded under a masked objective."""
    samples = SECONDS * rate_hz
    time_s = np.arange(samples) / rate_hz
    whole = bool(deviation_SxI.any())  # a forecast is asked for everywhere
    for row in range(len(INDEPENDENT_LEADS)):
        truth, mean, deviation = (x[:samples, row] for x in (target_SxI, mean_SxI, deviation_SxI))
        base = -OFFSET_SD * row
        if not whole:
            low, high = base - OFFSET_SD / 2, base + OFFSET_SD / 2
            axes.fill_between(time_s, low, high, where=np.isfinite(mean), step="post", color="#f1e3d3", lw=0)
        axes.plot(time_s, base + truth, color="black", lw=0.7, label="recording" if row == 0 else None)
        axes.plot(time_s, base + mean, color="#D55E00", lw=1.0, label="model" if row == 0 else None)
        axes.fill_between(time_s, base + mean - deviation, base + mean + deviation, color="#D55E00", alpha=0.3, lw=0)
    axes.set(xlabel="s", xlim=(0, SECONDS), ylim=(-OFFSET_SD * len(INDEPENDENT_LEADS) + 1.5, 10))
    axes.spines[["top", "right"]].set_visible(False)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_data_dir(parser)
    parser.add_argument("--size", type=int, default=30_000, help="rung of the ladder (default 30000)")
    parser.add_argument("--records", type=int, default=8_192, help="training records per objective (default 8192)")
    parser.add_argument("--record", help="the held-out record to draw, as ptbxl/00009 (default: the first)")
    parser.add_argument("--cache", type=Path, default=Path("out/reconstruct"), help="where prepared records are kept")
    add_results(parser, "objectives")
    return parser


@command
def main(arguments: Sequence[str] | None = None) -> None:
    """Trains, draws, and writes the losses beside their reference lines."""
    parser = _parser()
    options = parser.parse_args(arguments)
    data_dir = real_data_dir(parser, options.data_dir)
    with Stage(f"reading PTB-XL from {data_dir}", STDERR, "records") as advance:
        data = load_real(data_dir, options.cache, leave_out_flawed=True, progress=advance)
    tell_left_out(data, Console(highlight=False))
    pool = data.heldout.pool
    if options.record is not None and options.record not in pool.record_id:
        parser.error(f"{options.record} is no held-out record; they are {pool.record_id[0]} to {pool.record_id[-1]}")
    row = 0 if options.record is None else int(np.flatnonzero(pool.record_id == options.record)[0])

    figure = Figure(figsize=(13, 6), layout="constrained")
    FigureCanvasAgg(figure)
    lines = []
    panels = figure.subplots(1, len(Objective), sharey=True)
    for axes, objective in zip(panels, Objective, strict=True):
        config = config_of(objective, options.size, options.records, data.identity)
        heldout = freeze(pool, config.model.patches, objective=objective, ratio=config.mask_ratio, masks=2)
        with jax.set_mesh(make_mesh(jax.devices()[:1])):
            began = time.perf_counter()
            with Stage(f"training {objective}", STDERR):
                params = fitted(config, data.training)
            seconds = time.perf_counter() - began
            errors = model_errors(program(config).model, params, heldout, objective=objective)
            mean_SxI, deviation_SxI = prediction(config, params, heldout, row)
        loss, references = overall(errors, heldout), response_of(heldout, data.training, objective).references
        target_SxI = normalise(pool.ecg[row])[:, INDEPENDENT_LEAD_INDICES]
        draw(axes, target_SxI, mean_SxI, deviation_SxI, pool.sample_rate_hz)
        axes.set_title(
            f"{objectives.of(objective).words.title}\nloss {loss:.3f}, linear {references['loss_linear']:.3f}",
            fontsize=9,
        )
        lines.append(
            {
                "objective": objective.value,
                "n_params": parameters(config.model).blocks,
                "records_seen": config.budget_records,
                "loss": loss,
                "loss_mean": references["loss_mean"],
                "loss_linear": references["loss_linear"],
                "skill": 1 - objectives.of(objective).share(loss, references["loss_linear"]),
                "seconds": round(seconds, 1),
            }
        )
        print(lines[-1], flush=True)
    panels[0].set(yticks=-OFFSET_SD * np.arange(len(INDEPENDENT_LEADS)), yticklabels=INDEPENDENT_LEADS)
    panels[0].legend(loc="upper right", fontsize=7, ncols=2)
    figure.suptitle(f"PTB-XL record {pool.record_id[row]} (fold 9, held out)", fontsize=10)
    for ending, how in (("png", {"dpi": 110}), ("pdf", {"metadata": {"CreationDate": None}})):
        with whole_file(options.results / f"reconstruction.{ending}") as path:
            figure.savefig(path, **how)
    table = pd.DataFrame(lines).to_csv(index=False, float_format="%.4f", lineterminator="\n")
    write_text(options.results / "losses.csv", table)


if __name__ == "__main__":
    raise SystemExit(main())
