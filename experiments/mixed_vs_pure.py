"""How do convergence and final loss change with size for mixed pretraining, against pure synthetic and pure real?

The study of this project. Arms: real fractions at the full pool (the headline), nested small pools of patients, and the
controls that tell what an effect is made of: as many synthetic records as there are real ones, repeated alike; noise
with the pool's spectra in place of the synthetic ECG; mixing on top of the real exposures instead of in their place;
and, on a GPU, another generator. The first block is seed 0 of the headline at every size; every further block adds a
seed, a shuffle or a control at every size, so that each number of whole blocks is a balanced design.

Command:   python -m experiments.mixed_vs_pure --preset cpu --out out/mixed_vs_pure
           python -m experiments.mixed_vs_pure --preset gpu --minutes 9      (again and again, until nothing is left)
Hardware:  cpu: 2 cores, under 4 GiB, hours; gpu: one H200-class GPU, about half an hour by FLOPs. --dry-run tells.
Writes:    OUT/store and OUT/runs.csv, patients.csv, sources.csv, curve.csv of what is done.
Status:    no claim is made of it yet. Losses are of fold 9; hypotheses are to be registered first, and the largest size
           of each preset is planned but not run, since its losses stay sealed until they are predicted.
Killed and started again, it goes on where it stopped and ends with the same numbers.
"""

from __future__ import annotations

import argparse
import dataclasses
import enum
import os
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from pathlib import Path

from rich.console import Console

from ecg_jax.codec import to_json
from ecg_jax.config import DataConfig, Mixing, Precision, RunConfig
from ecg_jax.data.ecg import PUBLISHED, RecordPool, Source
from ecg_jax.data.synthetic import SyntheticSource, Tier, recipe
from ecg_jax.data.synthetic.fitted.surrogate import fit_spectrum
from ecg_jax.distributed import backend
from ecg_jax.distributed.agreement import broadcast_from_primary, is_primary, primary_first
from ecg_jax.distributed.launch import join
from ecg_jax.evaluate.response import response_of
from ecg_jax.scaling import ladder
from ecg_jax.scaling.cost import records_trained, trunks
from ecg_jax.store.layout import Store, check_checkpoints, check_folder, open_store
from ecg_jax.store.tables import export
from ecg_jax.study.deadline import Slot
from ecg_jax.study.forecast import Pace
from ecg_jax.study.options import StudyOptions
from ecg_jax.study.run_study import run_study
from ecg_jax.study.sweep import replace
from ecg_jax.terminal.command import command
from ecg_jax.terminal.renamed import add_renamed
from ecg_jax.terminal.stage import Stage
from ecg_jax.train.input_pipeline import Placement
from ecg_jax.train.training_data import TrainingData
from experiments.launch.slurm import check_task
from experiments.protocol.data import StudyData, load_or_standin
from experiments.protocol.data_files import export_data, load_data_files
from experiments.protocol.dry_run import add_dry_run, is_dry_run, pace_of, print_forecast
from experiments.protocol.neurokit import GENERATOR, neurokit_pool
from experiments.protocol.options import add_data_dir, add_out

STUDY = "mixed_vs_pure"
TIER = Tier.ACQUISITION
SYNTHETIC_SEED = 0


class Synthetic(enum.StrEnum):
    """What an arm mixes with the real records."""

    FRESH = "fresh"  # an unbounded stream
    REPEATED = "repeated"  # as many records as the real pool, repeated exactly as it is
    NOISE = "noise"  # tier T-1: the pool's spectra and no heartbeat
    INDEPENDENT = "independent"  # as many records of another generator as the real pool


@dataclasses.dataclass(frozen=True)
class Arm:
    """Runs at every size. `repeats` are seeds, each with a shuffle of its own where `patients` cuts the pool."""

    fractions: tuple[float, ...]
    repeats: tuple[int, ...] = (0,)
    patients: int | None = None
    synthetic: Synthetic = Synthetic.FRESH
    mixing: Mixing = Mixing.REPLACEMENT


@dataclasses.dataclass(frozen=True)
class Preset:
    """Sizes, budgets in records and arms; `predicted` is the size that is held out until it is predicted."""

    sizes: tuple[int, ...]
    predicted: int
    budgets: tuple[int, ...]
    arms: tuple[Arm, ...]
    batch_records: int = 64
    precision: Precision = Precision.FLOAT32


#: Arms of a prediction: the size's runs at the fractions that the primary contrasts compare.
PREDICTED = Arm((0.0, 0.5, 1.0))

PRESETS = {
    "cpu": Preset(
        sizes=(30_000, 100_000, 300_000),
        predicted=1_000_000,
        budgets=(4_096, 10_240, 25_600, 64_000),
        arms=(
            Arm((0.0, 0.5, 1.0), repeats=(0, 1, 2)),
            Arm((0.5, 1.0), repeats=(0, 1, 2), patients=150),
            Arm((0.5,), synthetic=Synthetic.REPEATED),
            Arm((0.5,), synthetic=Synthetic.NOISE),
            Arm((0.5,), mixing=Mixing.ADDITIVE),
        ),
    ),
    "gpu": Preset(
        sizes=(30_000, 100_000, 300_000, 1_000_000, 3_000_000, 10_000_000),
        predicted=30_000_000,
        budgets=(3_072, 10_240, 30_720, 99_840, 299_520),
        arms=(
            Arm((0.0, 0.1, 0.5, 0.9, 1.0), repeats=(0, 1, 2)),
            Arm((0.1, 0.5, 1.0), repeats=(0, 1, 2), patients=150),
            Arm((0.1, 0.5, 1.0), repeats=(0, 1), patients=470),
            Arm((0.5,), repeats=(0, 1, 2), synthetic=Synthetic.REPEATED),
            Arm((0.5,), synthetic=Synthetic.NOISE),
            Arm((0.5,), mixing=Mixing.ADDITIVE),
            Arm((0.5,), synthetic=Synthetic.INDEPENDENT),
        ),
    ),
    # The paper's scale: PTB-XL, CODE-15% and MIMIC-IV-ECG together, about a million real records.
    "tpu": Preset(
        sizes=(1_000_000, 3_000_000, 10_000_000, 30_000_000, 100_000_000, 300_000_000),
        predicted=1_000_000_000,
        budgets=(307_200, 1_024_000, 3_072_000, 10_240_000, 30_720_000),
        arms=(
            Arm((0.0, 0.1, 0.5, 0.9, 1.0), repeats=(0, 1, 2)),
            Arm((0.1, 0.5, 1.0), repeats=(0, 1, 2), patients=10_000),
            Arm((0.1, 0.5, 1.0), repeats=(0, 1), patients=100_000),
            Arm((0.5,), repeats=(0, 1, 2), synthetic=Synthetic.REPEATED),
            Arm((0.5,), synthetic=Synthetic.NOISE),
            Arm((0.5,), mixing=Mixing.ADDITIVE),
        ),
        batch_records=1024,
        precision=Precision.BFLOAT16,
    ),
}


@dataclasses.dataclass(frozen=True)
class Inputs:
    """The identities of what runs are made from: real records, response, and synthetic sources with what they know."""

    real_source: str
    real_records: int
    response: str
    synthetic: Mapping[Synthetic, tuple[str, str]]


#: For a look at the plan before any data is read: the records of PTB-XL's training folds in the smallest sample.
NOTHING_READ = Inputs("", 1520, "", {kind: (kind.value, PUBLISHED) for kind in Synthetic})


def blocks(preset: Preset, inputs: Inputs = NOTHING_READ) -> Iterator[list[RunConfig]]:
    """The runs of a preset, block by block: one repeat of one arm at every size but the predicted one."""
    for repeat in sorted({repeat for arm in preset.arms for repeat in arm.repeats}):
        for arm in preset.arms:
            if repeat in arm.repeats:
                yield _runs(preset, preset.sizes, arm, repeat, inputs)


def predicted(preset: Preset, inputs: Inputs = NOTHING_READ) -> list[RunConfig]:
    """The runs of the size that is held out."""
    return _runs(preset, (preset.predicted,), PREDICTED, 0, inputs)


def _runs(preset: Preset, sizes: Sequence[int], arm: Arm, repeat: int, inputs: Inputs) -> list[RunConfig]:
    identity, information = inputs.synthetic[arm.synthetic]
    finite = arm.synthetic in (Synthetic.REPEATED, Synthetic.INDEPENDENT)
    tier = {Synthetic.NOISE: Tier.NOISE.value, Synthetic.INDEPENDENT: GENERATOR}.get(arm.synthetic, TIER.value)
    runs = []
    for size in sizes:
        for fraction in arm.fractions:
            factor = 1 / fraction if arm.mixing is Mixing.ADDITIVE else 1
            base = RunConfig(
                study=STUDY,
                model=ladder.model_config(size, precision=preset.precision),
                data=DataConfig(
                    real_fraction=fraction,
                    real_source=inputs.real_source,
                    synthetic_source=identity,
                    real_patients=arm.patients,
                    pool_shuffle=repeat if arm.patients else 0,
                    synthetic_records=inputs.real_records if finite else None,
                    mixing=arm.mixing,
                    tier=tier,
                    real_information=information,
                ),
                optim=ladder.optim_config(),
                budget_records=preset.budgets[0],
                batch_records=preset.batch_records,
                response=inputs.response,
                seed=repeat,
            )
            runs += [replace(base, {"budget_records": round(factor * budget)}) for budget in preset.budgets]
    return runs


def sources(preset: Preset, data: StudyData, folder: Path, console: Console) -> dict[Synthetic, Source]:
    """The synthetic sources of a preset's arms; what takes long is kept in `folder`."""
    stream = SyntheticSource(SYNTHETIC_SEED, recipe(TIER))
    found: dict[Synthetic, Source] = {}
    for kind in {arm.synthetic for arm in preset.arms}:
        match kind:
            case Synthetic.FRESH | Synthetic.REPEATED:
                found[kind] = stream
            case Synthetic.NOISE:
                with Stage("fitting the spectra of the real records", console):
                    spectrum = fit_spectrum(data.training)
                found[kind] = SyntheticSource(SYNTHETIC_SEED, recipe(Tier.NOISE), fitted=spectrum)
            case Synthetic.INDEPENDENT:
                found[kind] = neurokit_pool(len(data.training), folder / "neurokit.npz", console)
    return found


def _identity(source: Source) -> tuple[str, str]:
    """The identity of a source, and what it knows of real recordings."""
    return source.source if isinstance(source, RecordPool) else source.identity, source.simulated.real_information


def load(options: argparse.Namespace, console: Console) -> StudyData:
    """Packed data, PTB-XL, or the stand-in."""
    if options.data_files is not None:
        if options.real or options.real_weights:
            raise ValueError(f"{options.data_files} holds its real sets already: give --real with --export-data")
        return load_data_files(options.data_files)
    return load_or_standin(
        options.data_dir,
        options.out / "data",
        options.standin_patients,
        console,
        options.real,
        options.real_weights,
    )


def dry_run(preset: Preset, pace: Pace, console: Console) -> None:
    """Prints what a preset takes, in all, for its first block, and for the size that is held out."""
    planned = list(blocks(preset))
    parts = {
        f"all {len(planned)} blocks": [run for block in planned for run in block],
        "the first block alone": planned[0],
        "the size that is held out until it is predicted: not run": predicted(preset),
    }
    for title, runs in parts.items():
        print_forecast(console, runs, pace, title)


def compile_for(preset: Preset, topologies: Sequence[str], price: float, console: Console) -> int:
    """Compiles every size of a preset for TPUs, and prints what its runs would cost; returns the exit status."""
    from ecg_jax.aot import compile  # here, since it wants an environment of its own

    compile.check_environment()
    every = [run for block in blocks(preset) for run in block] + predicted(preset)
    models = {run.model: run for run in every}
    records = {
        model: sum(records_trained(group) for group in trunks([run for run in every if run.model == model]))
        for model in models
    }
    rows = compile.compile_all(list(models.values()), topologies, console)
    return compile.tell(rows, [records[model] for model in models] * len(topologies), price)


def run(options: argparse.Namespace, console: Console) -> Store:
    """Does the runs of the wanted blocks that are not done, and writes the tables of all that are."""
    preset = PRESETS[options.preset]
    # What can be refused is refused before any data is read.
    check_folder(options.out)
    if task := os.environ.get("SLURM_ARRAY_TASK_ID"):
        check_task(task, len(trunks([run for block in list(blocks(preset))[: options.blocks] for run in block])))
    if options.checkpoints is not None:
        check_checkpoints(options.checkpoints)
    Slot(options.minutes)
    with primary_first():  # the first prepares what the others find
        data = load(options, console)
    kinds = sources(preset, data, options.out / "data", console)
    identities = {kind: _identity(source) for kind, source in kinds.items()}
    inputs = Inputs(f"{data.target} {data.identity}", len(data.training), data.heldout.identity, identities)
    planned = list(blocks(preset, inputs))
    targets = [run for block in planned for run in block]
    settings = {
        "preset": to_json(preset),
        "synthetic data": {kind: identities[kind][0] for kind in sorted(identities)},
        "target": data.target,
        "training data": data.identity,
        "response": data.heldout.identity,
    }
    store = Store(options.out / "store", STUDY, options.checkpoints)
    if is_primary():
        open_store(store.root, STUDY, targets, settings)
    broadcast_from_primary(None)  # all wait for it
    wanted = [run for block in planned[: options.blocks] for run in block]
    console.print(
        f"{data.target}: {len(data.training)} training records, {len(data.heldout.pool)} held-out records; "
        f"{len(planned)} blocks, {len(targets)} runs, of which {len(wanted)} are wanted now",
        soft_wrap=True,
    )
    training = TrainingData(data.training, {identities[kind][0]: source for kind, source in kinds.items()})
    with Stage("fitting the reference lines", console):
        response = response_of(data.heldout, data.training)
    how = StudyOptions(options.placement, options.runs_per_program, options.minutes, options.profile, options.wait)
    run_study(store, wanted, training, {data.heldout.identity: response}, options=how)
    if is_primary():
        if any(map(store.is_done, targets)):
            export(store, options.out)
        else:  # the slot ended first, or other jobs train it all
            console.print("no run is done yet, so there are no tables: the same command goes on", soft_wrap=True)
    return store


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = argparse.ArgumentParser(
        prog="python -m experiments.mixed_vs_pure",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="""examples:
  python -m experiments.mixed_vs_pure --preset gpu --dry-run                what it would take; reads nothing
  python -m experiments.mixed_vs_pure --blocks 1                            the smallest balanced design
  python -m experiments.mixed_vs_pure --export-data out/data                real data as files for a bare GPU node
  python -m experiments.mixed_vs_pure --preset gpu --data-files out/data --minutes 9
  python -m experiments.mixed_vs_pure --export-data DATA --real data/built/code15-100hz data/built/mimic_iv_ecg-100hz
  python -m experiments.mixed_vs_pure --preset tpu --data-files DATA        the paper's scale, on those three sets
  ecg-jax status out/mixed_vs_pure/store --watch            in another terminal""",
    )
    p.add_argument("--preset", choices=list(PRESETS), default="cpu", help="sizes, budgets and arms (%(default)s)")
    add_out(p, "mixed_vs_pure")
    p.add_argument("--blocks", type=int, metavar="N", help="do the first N blocks only (default: all)")
    add_dry_run(p)
    p.add_argument(
        "--aot", nargs="+", metavar="TOPOLOGY", help="compile for TPUs such as v5e:16x16, and cost it; runs nothing"
    )
    p.add_argument("--price", type=float, default=1.2, help="of a chip-hour, for --aot (%(default)s)")
    data = p.add_argument_group("data")
    add_data_dir(data)
    data.add_argument(
        "--real",
        type=Path,
        nargs="+",
        default=(),
        metavar="DIR",
        help="further real sets to train on, as data.real.build writes them (data/built/code15-100hz …)",
    )
    data.add_argument(
        "--real-weights",
        type=Fraction,
        nargs="+",
        metavar="W",
        help="shares of the real stream, PTB-XL's first, then one for each --real (default: by size)",
    )
    data.add_argument("--data-files", type=Path, metavar="DIR", help="read the data that --export-data wrote instead")
    data.add_argument("--export-data", type=Path, metavar="DIR", help="write the data to DIR, and stop")
    add_renamed(p, {"--pack": "--export-data", "--packed": "--data-files", "--pack-size": "--runs-per-program"})
    data.add_argument("--standin-patients", type=int, default=1000, metavar="K", help="where there is no PTB-XL")
    machine = p.add_argument_group("the machine (no part of a run's identity)")
    machine.add_argument("--minutes", type=float, help="leave after so long, having begun only what fits")
    machine.add_argument("--checkpoints", metavar="DIR", help="where they go: a folder or gs://… (default: OUT)")
    machine.add_argument("--runs-per-program", type=int, metavar="K", help="packed together (default: measured)")
    machine.add_argument("--placement", type=Placement, choices=list(Placement), help="where batches are put together")
    machine.add_argument("--no-wait", dest="wait", action="store_false", help="leave what other jobs train to them")
    machine.add_argument("--deterministic", action="store_true", help="bit-identical GPU runs, at some cost in speed")
    machine.add_argument("--profile", type=Path, metavar="DIR", help="write a trace of the first steps, for XProf")
    return p


@command
def main(arguments: Sequence[str] | None = None) -> int:
    """The command line's entry; returns the exit status."""
    options = parser().parse_args(arguments)
    backend.configure(deterministic=options.deterministic)
    console = join()
    if options.aot:
        return compile_for(PRESETS[options.preset], options.aot, options.price, console)
    if is_dry_run(options):
        dry_run(PRESETS[options.preset], pace_of(options, console), console)
    elif options.export_data is not None:
        data = load(options, console)
        records = len(data.training) + len(data.heldout.pool)
        with Stage(f"writing {records:,} records to {options.export_data}", console):
            export_data(options.export_data, data)
    else:
        run(options, console)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
