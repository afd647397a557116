"""How does loss on held-out real ECG fall with size and data, for pure synthetic, mixed and pure real pretraining?

The whole experiment in miniature: sizes x real fractions (0, 0.5, 1) x budgets, on PTB-XL where ECG_DATA_DIR names a
folder that holds it, else on a few hundred of its recordings, fetched from PhysioNet, and out of reach of it on a
stand-in target. So small a study settles nothing; it shows every part at work.

Command:   make demo        (python -m experiments.quickstart --out out/quickstart)
Hardware:  2 CPU cores, under 4 GiB. Wall time: about 6 minutes.
Writes:    OUT/runs.csv, patients.csv, sources.csv, curve.csv, fits.json, figures/*.{pdf,png,csv}, report.html; runs
           under OUT/store.
           Runs of the largest budget, seed 0, keep their encoder: OUT/store/quickstart/runs/<run_id>/encoder.
Killed and started again, it goes on where it stopped and ends with the same numbers. It may grow: with more sizes,
fractions, budgets or seeds in the same folder what is done is kept, and the report tells of all of it.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
from rich.console import Console

from ecg_jax.config import DataConfig, RunConfig
from ecg_jax.data.synthetic import SyntheticSource, Tier, recipe
from ecg_jax.distributed import backend
from ecg_jax.distributed.mesh import check_batch, make_mesh
from ecg_jax.evaluate.response import response_of
from ecg_jax.files.whole_folder import making
from ecg_jax.scaling import ladder
from ecg_jax.store.curve import FIRST_CURVE_STEP
from ecg_jax.store.layout import Store, check_folder, check_settings, open_store, read_study
from ecg_jax.store.tables import export
from ecg_jax.study.hooks import Keep
from ecg_jax.study.run_study import run_study
from ecg_jax.study.sweep import grid
from ecg_jax.terminal.command import command
from ecg_jax.terminal.stage import Stage
from ecg_jax.train.training_data import TrainingData
from experiments.protocol import analysis, report
from experiments.protocol.data import (
    HOW_TO_GET_PTBXL,
    STANDIN_NOTE,
    StudyData,
    data_dir_or_none,
    fetch_ptbxl,
    load_real,
    load_standin,
    tell_left_out,
)
from experiments.protocol.dry_run import add_dry_run, is_dry_run, pace_of, print_forecast
from experiments.protocol.options import add_data_dir, add_out

STUDY = "quickstart"
SIZES = (30_000, 60_000, 100_000, 300_000)
FRACTIONS = (0.0, 0.5, 1.0)
BUDGETS = (1024, 2048, 4096)
SEEDS = (0,)
BATCH_RECORDS = 32
STANDIN_PATIENTS = 1000
FETCH_RECORDS = 400
SYNTHETIC_SEED = 0
TIER = Tier.ACQUISITION


def synthetic_source() -> SyntheticSource:
    """The synthetic records of the study: an unbounded stream."""
    return SyntheticSource(SYNTHETIC_SEED, recipe(TIER))


def targets(
    real_source: str = "",
    response: str = "",
    *,
    sizes: Sequence[int] = SIZES,
    fractions: Sequence[float] = FRACTIONS,
    budgets: Sequence[int] = BUDGETS,
    seeds: Sequence[int] = SEEDS,
    batch_records: int = BATCH_RECORDS,
) -> list[RunConfig]:
    """The runs: every size x real fraction x seed is a trunk, every budget a cool-down from it.

    `real_source` and `response` are the identities of the training records and of the held-out ones.
    """
    runs, synthetic = [], synthetic_source()
    for size in sizes:
        model = ladder.model_config(size)
        base = RunConfig(
            study=STUDY,
            model=model,
            data=DataConfig(
                real_fraction=fractions[0],
                real_source=real_source,
                synthetic_source=synthetic.identity,
                tier=TIER.value,
                real_information=synthetic.real_information,
            ),
            optim=ladder.optim_config(),
            budget_records=budgets[0],
            batch_records=batch_records,
            response=response,
        )
        runs += grid(base, {"data.real_fraction": fractions, "seed": seeds, "budget_records": sorted(budgets)})
    distinct = len({config.run_id for config in runs})
    if distinct < len(runs) or not runs:
        shapes = {size: f"{m.depth} x {m.width}" for size in sizes for m in [ladder.model_config(size)]}
        raise ValueError(
            f"{len(runs)} runs, {distinct} of them distinct: give at least one seed, "
            f"and sizes, fractions and budgets that differ (depth x width by size: {shapes})"
        )
    return runs


def check_budgets(runs: Sequence[RunConfig]) -> None:
    """Raises ValueError for budgets after which there would be nothing to analyse: all within the warm-up, or their
    trunks too short for the first point of a learning curve."""
    longest, first = max(runs, key=lambda run: run.budget_records), FIRST_CURVE_STEP
    if longest.branch_step >= first and longest.budget_records >= longest.optim.warmup_records:
        return
    batch, share = longest.batch_records, longest.optim.cooldown_fraction
    steps = next(n for n in itertools.count(first) if n - max(1, round(n * share)) >= first)
    enough = max(steps, longest.warmup_steps) * batch
    raise ValueError(
        f"--budgets {longest.budget_records} is too small to tell anything: {longest.branch_step} steps of {batch} "
        f"records come before the cool-down, the first point of a learning curve at step {first}, and the warm-up "
        f"takes {longest.optim.warmup_records} records; give a budget of at least {enough}, or a smaller --batch"
    )


def keeps(runs: Sequence[RunConfig]) -> Keep:
    """Which runs leave their encoder: those of the largest budget at the first seed of all that the study has."""
    budget, seed = max(run.budget_records for run in runs), min(run.seed for run in runs)
    return lambda run: (run.budget_records, run.seed) == (budget, seed)


def fetched(options: argparse.Namespace, console: Console) -> Path | None:
    """PTB-XL's first recordings, fetched; None where they are not wanted, cannot be had, or the study has none."""
    begun = Store(options.out / "store", STUDY).path / "study.json"
    if not options.fetch or (begun.exists() and read_study(begun)["settings"]["target"] == STANDIN_NOTE):
        return None  # a study begun on the stand-in goes on with it
    return fetch_ptbxl(options.out / "ptbxl", options.fetch, console)


def load(data_dir: Path | None, options: argparse.Namespace, console: Console) -> StudyData:
    """The data of the study: real where there is a folder of it, and otherwise the stand-in, saying so."""
    if data_dir is None:
        console.print(HOW_TO_GET_PTBXL, soft_wrap=True)
        with Stage(f"making {options.standin_patients:,} patients of the stand-in", console):
            return load_standin(options.standin_patients)
    with Stage(f"reading PTB-XL from {data_dir}", console, "records") as advance:
        data = load_real(data_dir, options.out / "data", leave_out_flawed=options.leave_out_flawed, progress=advance)
    tell_left_out(data, console)
    if not data.frozen:
        console.print(
            "These are not all the records that the pilot froze: losses compare within this study only.", soft_wrap=True
        )
    return data


def axes_of(options: argparse.Namespace) -> dict[str, Any]:
    """What `targets` varies, as the command line says."""
    return {
        "sizes": options.sizes,
        "fractions": options.fractions,
        "budgets": options.budgets,
        "seeds": range(options.seeds),
        "batch_records": options.batch,
    }


def run(options: argparse.Namespace, console: Console) -> Store:
    """Loads the data, does the runs that are not done, and writes tables, fits, figures and report."""
    with jax.set_mesh(make_mesh()):
        check_batch(options.batch)
    axes = axes_of(options)
    # What can be refused is refused before any data is fetched or read.
    planned, begun = targets(**axes), Store(options.out / "store", STUDY)
    known = begun.targets() if (begun.path / "study.json").exists() else []
    check_budgets([*planned, *known])
    check_folder(options.out)
    for line in analysis.forgone([*known, *planned]):
        console.print(line, soft_wrap=True)
    data_dir = data_dir_or_none(options.data_dir) or fetched(options, console)
    settings = {
        "batch_records": options.batch,
        "synthetic data": synthetic_source().identity,
        "target": STANDIN_NOTE if data_dir is None else "PTB-XL",
    }
    check_settings(begun, settings)
    data = load(data_dir, options, console)
    runs = targets(f"{data.target} {data.identity}", data.heldout.identity, **axes)
    settings |= {"training data": data.identity, "response": data.heldout.identity}
    store = open_store(options.out / "store", STUDY, runs, settings)
    console.print(
        f"{data.target}: {len(data.training)} training records, {len(data.heldout.pool)} held-out records; "
        f"{len(runs)} runs"
    )
    synthetic = synthetic_source()
    training = TrainingData(data.training, {synthetic.identity: synthetic})
    with Stage("fitting the reference lines", console):
        response = response_of(data.heldout, data.training)
    run_study(store, runs, training, {data.heldout.identity: response}, keep=keeps(store.targets()))
    with making(options.out / "report.html"):
        write_up(options.out, store, training, data, console)
    return store


def write_up(out: Path, store: Store, training: TrainingData, data: StudyData, console: Console) -> None:
    """Writes tables, fits, figures and report of all runs that are done, and prints the answer."""
    export(store, out)
    with Stage("fitting laws and contrasts", console):
        findings = analysis.analyse(out, data.note)
    with Stage("drawing the figures and the report", console):
        report.write(out, store, [run for run in store.targets() if store.is_done(run)], training, data, findings)
    for line in analysis.answer(findings, data.note):
        console.print(line, soft_wrap=True)
    console.print(f"{out / 'report.html'} tells it in full.", soft_wrap=True)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = argparse.ArgumentParser(
        prog="python -m experiments.quickstart",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="Example, larger: python -m experiments.quickstart --out out/larger --sizes 30000 100000 300000 1000000 "
        "--budgets 4096 8192 16384 --seeds 3   (about 3 hours on 2 cores)",
    )
    add_out(p, "quickstart")
    add_data_dir(p)
    p.add_argument(
        "--sizes", type=int, nargs="+", default=list(SIZES), metavar="N", help="parameters in blocks (%(default)s)"
    )
    p.add_argument(
        "--fractions",
        type=float,
        nargs="+",
        default=list(FRACTIONS),
        metavar="R",
        help="real fractions: 0 is pure synthetic, 1 pure real (%(default)s)",
    )
    p.add_argument(
        "--budgets",
        type=int,
        nargs="+",
        default=list(BUDGETS),
        metavar="D",
        help="records seen, cool-down included (%(default)s)",
    )
    p.add_argument("--seeds", type=int, default=len(SEEDS), metavar="K", help="seeds per trunk (%(default)s)")
    p.add_argument("--batch", type=int, default=BATCH_RECORDS, metavar="B", help="records per step (%(default)s)")
    add_dry_run(p)
    p.add_argument(
        "--leave-out-flawed",
        action="store_true",
        help="leave out recordings with missing samples or a flat lead, naming each, instead of stopping",
    )
    p.add_argument(
        "--fetch",
        type=int,
        default=FETCH_RECORDS,
        metavar="N",
        help="records of PTB-XL to fetch where no folder is given; 0: the stand-in at once (%(default)s)",
    )
    p.add_argument(
        "--standin-patients",
        type=int,
        default=STANDIN_PATIENTS,
        metavar="K",
        help="patients of the stand-in target, where there are no real recordings (%(default)s)",
    )
    return p


@command
def main(arguments: Sequence[str] | None = None) -> None:
    """The command line's entry."""
    options, console = parser().parse_args(arguments), Console(highlight=False)
    backend.configure()
    if is_dry_run(options):
        print_forecast(console, targets(**axes_of(options)), pace_of(options, console))
    else:
        run(options, console)


if __name__ == "__main__":
    raise SystemExit(main())
