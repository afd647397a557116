"""Does one base learning rate serve every size? Held-out loss against learning rate, ours against standard.

Question: how far does the best learning rate move over widths (8-fold) and depths (8-fold), under CompleteP and under
the standard parametrisation; between arms (r = 0, 0.5, 1, and 150 patients); with the batch at equal records?

Every line of the figure is a cell: a shape, an arm or a batch. A cell tries three rates, then neighbours a factor of
two apart until its best rate has `--reach` neighbours on both sides; small cells come first, and tables and figure are
written after each, so a run that is cut short has whole cells. Best rates are vertices of a quadratic in log rate.

Result:    over 8-fold widths the best rate stays within a factor of 1.5 under CompleteP and falls 8-fold under the
           standard parametrisation; over 8-fold depths, within 2.0 and 2.4. Arms and batches need no own rates.
Command:   python -m experiments.lr_transfer --data-dir DIR --out out/lr_transfer
Hardware:  1 CPU core, under 4 GiB. Wall time: about 20 minutes (--preset gpu: larger widths, for one GPU).
Writes:    OUT/store, and to --results (default results/lr_transfer): runs.csv, best.csv, transfer.json,
           lr_transfer.{png,pdf}. The result is told in results/lr_transfer/README.md.
Killed and started again, it goes on where it stopped and ends with the same numbers.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from rich.console import Console

from ecg_jax.config import DataConfig, ModelConfig, Parametrisation, RunConfig
from ecg_jax.data.synthetic import SyntheticSource, Tier, recipe
from ecg_jax.distributed import backend
from ecg_jax.evaluate.response import response_of
from ecg_jax.files.whole_file import read_json, whole_file, write_json, write_text
from ecg_jax.scaling import ladder
from ecg_jax.scaling.flops import train_flops_per_record
from ecg_jax.store.layout import Store, check_folder, open_store
from ecg_jax.store.tables import MACHINE_COLUMNS
from ecg_jax.study.run_study import run_study
from ecg_jax.study.sweep import replace
from ecg_jax.terminal.command import command
from ecg_jax.train.training_data import TrainingData
from experiments.protocol.data import load_or_standin
from experiments.protocol.dry_run import add_dry_run, is_dry_run, pace_of, print_forecast
from experiments.protocol.options import add_data_dir, add_out, add_results

STUDY = "lr_transfer"
TIER = Tier.ACQUISITION
QUESTIONS = ("width", "depth", "arm", "batch")
#: The rate that cells start from: the former base rate. Another one would try other rates.
START_RATE = 1.2e-2
#: The smallest pool of the study's arms.
SMALL_POOL = 150
#: Ordinary quantile of a 95 % interval.
NORMAL_95 = 1.96


@dataclasses.dataclass(frozen=True)
class Preset:
    """What is tried: widths at one depth and depths at one width; arms at one rung, batches at two.

    Shapes train for `shape_records` in batches of `shape_batch`, all else for `records` in batches of `batch_records`.
    """

    widths: tuple[int, ...]
    width_depth: int
    depths: tuple[int, ...]
    depth_width: int
    shape_batch: int
    shape_records: int
    arm_rung: int
    batch_rungs: tuple[int, ...]
    batches: tuple[int, ...]
    batch_records: int
    records: int


PRESETS = {
    "cpu": Preset(
        widths=(16, 32, 64, 128),
        width_depth=2,
        depths=(1, 2, 4, 8),
        depth_width=48,
        shape_batch=16,
        shape_records=2048,
        arm_rung=30_000,
        batch_rungs=(30_000, 300_000),
        batches=(16, 32, 64),
        batch_records=32,
        records=4096,
    ),
    "gpu": Preset(
        widths=(64, 128, 256, 512, 1024),
        width_depth=4,
        depths=(2, 4, 8, 16, 32),
        depth_width=256,
        shape_batch=64,
        shape_records=16_384,
        arm_rung=1_000_000,
        batch_rungs=(300_000, 10_000_000),
        batches=(16, 32, 64, 128, 256),
        batch_records=64,
        records=16_384,
    ),
}


@dataclasses.dataclass(frozen=True)
class Cell:
    """Runs that differ in the learning rate alone. `question` names its panel, `value` what varies over the panel."""

    question: str
    group: str
    value: str
    config: RunConfig

    @property
    def work(self) -> float:
        """FLOPs of one of its runs."""
        return self.config.budget_records * train_flops_per_record(self.config.model)


def cells(preset: Preset, real_source: str = "", response: str = "") -> list[Cell]:
    """All cells of a preset, cheapest first. Rates start where Adam's best rate is expected: `START_RATE`, and for the
    standard parametrisation about `START_RATE` x 48 / width."""
    synthetic = SyntheticSource(0, recipe(TIER))
    base = RunConfig(
        study=STUDY,
        model=ladder.model_config(preset.arm_rung),
        data=DataConfig(
            real_fraction=1.0,
            real_source=real_source,
            synthetic_source=synthetic.identity,
            tier=TIER.value,
            real_information=synthetic.real_information,
        ),
        optim=dataclasses.replace(ladder.optim_config(), learning_rate=START_RATE),
        budget_records=preset.records,
        batch_records=preset.batch_records,
        response=response,
    )

    def shaped(question: str, width: int, depth: int, parametrisation: Parametrisation) -> Cell:
        model = ModelConfig(width, depth, width // ladder.head_size(width), parametrisation=parametrisation)
        rate = START_RATE
        if parametrisation is Parametrisation.STANDARD:
            rate *= 2.0 ** round(math.log2(48 / width))
        budget = {"batch_records": preset.shape_batch, "budget_records": preset.shape_records}
        config = replace(base, {"model": model, "optim.learning_rate": rate} | budget)
        return Cell(question, parametrisation.value, str(width if question == "width" else depth), config)

    found = []
    for parametrisation in Parametrisation:
        found += [shaped("width", width, preset.width_depth, parametrisation) for width in preset.widths]
        found += [shaped("depth", preset.depth_width, depth, parametrisation) for depth in preset.depths]
    rung = ladder.size_name(preset.arm_rung)
    found += [Cell("arm", rung, f"r = {r:g}", replace(base, {"data.real_fraction": r})) for r in (0.0, 0.5, 1.0)]
    small = replace(base, {"data.real_patients": SMALL_POOL})
    found.append(Cell("arm", rung, f"{SMALL_POOL} patients", small))
    for size in preset.batch_rungs:
        at = replace(base, {"model": ladder.model_config(size)})
        name = ladder.size_name(size)
        found += [Cell("batch", name, str(batch), replace(at, {"batch_records": batch})) for batch in preset.batches]
    return sorted(found, key=lambda cell: cell.work)


def wanted_cells(options: argparse.Namespace, real_source: str = "", response: str = "") -> list[Cell]:
    """The cells of the panels that are asked for."""
    plan = cells(PRESETS[options.preset], real_source, response)
    return [cell for cell in plan if cell.question in options.questions]


def at_rates(cell: Cell, rates: Sequence[float]) -> list[RunConfig]:
    """The runs of a cell at these rates."""
    return [replace(cell.config, {"optim.learning_rate": rate}) for rate in rates]


def next_rates(losses: Mapping[float, float], start: float, reach: int) -> list[float]:
    """The rates to try next: three at first, then what the best one lacks of `reach` neighbours on either side."""
    centre = min(losses, key=lambda rate: losses[rate]) if losses else start
    steps = range(-reach, reach + 1) if losses else (-1, 0, 1)
    return [rate for rate in (centre * 2.0**k for k in steps) if rate not in losses]


def losses_of(store: Store, cell: Cell, rates: Sequence[float]) -> dict[float, float]:
    """The held-out loss at each rate that is done; infinite where the run diverged."""
    configs = dict(zip(rates, at_rates(cell, rates), strict=True))
    records = {rate: store.record(config) for rate, config in configs.items() if store.is_done(config)}
    return {rate: math.inf if record["diverged"] else record["loss"] for rate, record in records.items()}


@dataclasses.dataclass(frozen=True)
class Best:
    """A cell's parabola: ln loss = `low` + `curvature` x (log2 rate - `log2_rate`)^2, from `points` rates.

    `unit_variance` is the variance of `log2_rate` for residuals of variance one; `residuals` are of ln loss.
    """

    log2_rate: float
    low: float
    curvature: float
    unit_variance: float
    residuals: tuple[float, ...]
    points: int


def fit(losses: Mapping[float, float]) -> Best | None:
    """The parabola through ln loss at the rates within a factor of four of the best one.

    None where fewer than three are finite, the parabola opens downwards, or its vertex lies outside of them.
    """
    best = min(losses, key=lambda rate: losses[rate])
    near = [rate for rate in sorted(losses) if 0.24 < rate / best < 4.1 and math.isfinite(losses[rate])]
    if len(near) < 3:
        return None
    x, y = np.log2(near) - math.log2(best), np.log([losses[rate] for rate in near])
    design = np.stack([np.ones_like(x), x, x**2], axis=1)
    coefficients = np.linalg.lstsq(design, y, rcond=None)[0]
    _, slope, curvature = coefficients
    if curvature <= 0:
        return None
    vertex = -slope / (2 * curvature)
    if not x[0] <= vertex <= x[-1]:
        return None
    gradient = np.array([0.0, -1 / (2 * curvature), slope / (2 * curvature**2)])
    variance = gradient @ np.linalg.inv(design.T @ design) @ gradient
    low = float(coefficients @ [1, vertex, vertex**2])
    residuals = tuple(float(r) for r in y - design @ coefficients)
    return Best(math.log2(best) + vertex, low, float(curvature), float(variance), residuals, len(near))


def best_table(done: Sequence[tuple[Cell, Mapping[float, float]]]) -> pd.DataFrame:
    """A row per cell: the best rate, its interval, the loss there, and what the base rate costs in ln loss.

    Intervals take the residuals' variance from all cells together: noise and what a parabola misses of the curve.
    """
    fits = [fit(losses) for _, losses in done]
    squares = sum(r**2 for best in fits if best for r in best.residuals)
    freedom = sum(best.points - 3 for best in fits if best)
    deviation = math.sqrt(squares / freedom) if freedom else math.nan
    rows = []
    for (cell, losses), best in zip(done, fits, strict=True):
        lowest = min(losses, key=lambda rate: losses[rate])
        row = {"question": cell.question, "group": cell.group, "value": cell.value, "rates": len(losses)}
        row |= {"lowest_rate_tried": min(losses), "highest_rate_tried": max(losses)}
        row |= {"best_measured_rate": lowest, "best_measured_loss": losses[lowest]}
        if best is not None:
            distance = math.log2(ladder.BASE_LEARNING_RATE) - best.log2_rate
            row |= {
                "best_rate": 2**best.log2_rate,
                "factor_95": 2 ** (NORMAL_95 * deviation * math.sqrt(best.unit_variance)),
                "loss_at_best": math.exp(best.low),
                "curvature": best.curvature,
                "base_rate_cost": best.curvature * distance**2,
            }
        rows.append(row)
    return pd.DataFrame(rows)


def transfer(table: pd.DataFrame) -> dict[str, dict[str, float]]:
    """Per question and group: the largest over the smallest best rate, and its power of width, depth or batch."""
    found = {}
    for (question, group), part in table.groupby(["question", "group"], sort=False):
        rates = part.best_rate.dropna() if "best_rate" in part else pd.Series(dtype=float)
        if len(rates) < 2:
            continue
        entry = {"cells": len(rates), "largest_over_smallest_best_rate": rates.max() / rates.min()}
        if question in ("width", "depth", "batch"):
            sizes = part.loc[rates.index, "value"].astype(float)
            entry["power"] = np.polyfit(np.log2(sizes), np.log2(rates), 1)[0]
        found[f"{question}, {group}"] = {name: float(value) for name, value in entry.items()}
    return found


def figure(done: Sequence[tuple[Cell, Mapping[float, float]]]) -> plt.Figure:
    """Loss against rate: widths and depths, ours above standard; arms above batches. Vertices are marked."""
    panels = {
        ("width", "complete_p"): "width, CompleteP", ("depth", "complete_p"): "depth, CompleteP", ("arm", None): "arms",
        ("width", "standard"): "width, standard", ("depth", "standard"): "depth, standard",
        ("batch", None): "batch at equal records",
    }  # fmt: skip
    fig, axes = plt.subplots(2, 3, figsize=(12, 7), layout="constrained", sharex=True)
    for axis, ((question, group), title) in zip(axes.flat, panels.items(), strict=True):
        shown = [(c, losses) for c, losses in done if c.question == question and group in (None, c.group)]
        groups = sorted({cell.group for cell, _ in shown})
        values = list(dict.fromkeys(cell.value for cell, _ in shown))
        for cell, losses in shown:
            colour = plt.cm.viridis(0.9 * values.index(cell.value) / max(1, len(values) - 1))
            style = ("-", "--")[groups.index(cell.group) % 2]
            rates = [rate for rate in sorted(losses) if math.isfinite(losses[rate])]
            label = cell.value if len(groups) < 2 else f"{cell.group}, {cell.value}"
            axis.plot(rates, [losses[rate] for rate in rates], marker="o", ms=3, ls=style, color=colour, label=label)
            best = fit(losses)
            if best is not None:
                axis.plot(2**best.log2_rate, math.exp(best.low), marker="v", ms=8, color=colour, mec="black")
        axis.axvline(ladder.BASE_LEARNING_RATE, color="0.6", lw=1, ls=":")
        axis.set(xscale="log", title=title)
        if shown:
            axis.legend(fontsize=7, loc="upper center", ncols=2)
        # Ours and standard on one scale, with room for the legend.
        losses = [loss for c, losses in done if c.question == question for loss in losses.values()]
        finite = [loss for loss in losses if math.isfinite(loss)]
        if finite:
            margin = 0.05 * (max(finite) - min(finite))
            axis.set_ylim(min(finite) - margin, max(finite) + 5 * margin)
    for axis in axes[:, 0]:
        axis.set_ylabel("held-out loss")
    for axis in axes[-1]:
        axis.set_xlabel("base learning rate")
    return fig


def write(options: argparse.Namespace, store: Store, done: Sequence[tuple[Cell, Mapping[float, float]]]) -> None:
    """Tables and figure of the cells that are done."""
    rows = []
    for cell, losses in done:
        for rate in sorted(losses):
            record = store.record(replace(cell.config, {"optim.learning_rate": rate}))
            rows.append({"question": cell.question, "group": cell.group, "value": cell.value} | record)
    target = read_json(store.path / "study.json")["settings"]["target"]
    runs = pd.DataFrame(rows).drop(columns=list(MACHINE_COLUMNS)).assign(target=target)
    table = best_table(done)
    for name, frame in (("runs", runs), ("best", table)):
        write_text(options.results / f"{name}.csv", frame.to_csv(index=False, lineterminator="\n", float_format="%.6g"))
    tree = {"preset": options.preset, "base_learning_rate": ladder.BASE_LEARNING_RATE, "transfer": transfer(table)}
    write_json(options.results / "transfer.json", tree)
    fig = figure(done)
    for ending in ("png", "pdf"):
        metadata = {"CreationDate": None} if ending == "pdf" else None
        with whole_file(options.results / f"lr_transfer.{ending}") as path:
            fig.savefig(path, dpi=150, metadata=metadata)
    plt.close(fig)


def run(options: argparse.Namespace, console: Console) -> pd.DataFrame:
    """Does all cells that are not done, and returns the table of best rates."""
    for folder in (options.out, options.results):
        check_folder(folder)
    data = load_or_standin(options.data_dir, options.out / "data", options.standin_patients, console)
    plan = wanted_cells(options, f"{data.target} {data.identity}", data.heldout.identity)
    settings = {"training data": data.identity, "response": data.heldout.identity, "target": data.target}
    synthetic = SyntheticSource(0, recipe(TIER))
    training = TrainingData(data.training, {synthetic.identity: synthetic})
    responses = {data.heldout.identity: response_of(data.heldout, data.training)}
    store = Store(options.out / "store", STUDY)
    targets: dict[str, RunConfig] = {}
    done: list[tuple[Cell, Mapping[float, float]]] = []
    for number, cell in enumerate(plan, 1):
        console.print(f"cell {number} of {len(plan)}: {cell.question}, {cell.group}, {cell.value}")
        losses: dict[float, float] = {}
        while missing := next_rates(losses, cell.config.optim.learning_rate, options.reach):
            wanted = at_rates(cell, missing)
            targets |= {config.run_id: config for config in wanted}
            open_store(options.out / "store", STUDY, list(targets.values()), settings)
            left = [config for config in wanted if not store.is_done(config)]
            if left:
                run_study(store, left, training, responses)
            losses |= losses_of(store, cell, missing)
        done.append((cell, losses))
        write(options, store, done)
    return best_table(done)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = argparse.ArgumentParser(
        prog="python -m experiments.lr_transfer",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="Example, a part: python -m experiments.lr_transfer --questions width --reach 2",
    )
    p.add_argument("--preset", choices=list(PRESETS), default="cpu", help="which shapes, batches and budget")
    p.add_argument("--questions", nargs="+", choices=QUESTIONS, default=list(QUESTIONS), help="panels (default: all)")
    add_dry_run(p)
    p.add_argument("--reach", type=int, default=1, help="neighbours of the best rate on either side (%(default)s)")
    add_data_dir(p)
    p.add_argument("--standin-patients", type=int, default=1000, metavar="K", help="where there is no PTB-XL")
    add_out(p, "lr_transfer")
    add_results(p, "lr_transfer")
    return p


@command
def main(arguments: Sequence[str] | None = None) -> None:
    """The command line's entry."""
    options, console = parser().parse_args(arguments), Console(highlight=False)
    backend.configure()
    if options.reach < 1:
        raise ValueError(f"--reach {options.reach} must be at least 1")
    if is_dry_run(options):
        first = [run for cell in wanted_cells(options) for run in at_rates(cell, next_rates({}, START_RATE, 1))]
        title = "the first three rates of every cell; most need one to three more"
        print_forecast(console, first, pace_of(options, console), title)
        return
    print(run(options, console).to_string(index=False))


if __name__ == "__main__":
    raise SystemExit(main())
