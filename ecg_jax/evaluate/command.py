"""What encoders are worth on labelled recordings: probes of frozen features, paired differences, and references.

    ecg-jax evaluate ENCODER… --out OUT [--data-dir DIR] [--tasks superdiagnostic rhythm …]
    ecg-jax evaluate model.pt --adapter mine.py --out OUT
    ecg-jax evaluate ENCODER --records SHARDS --labels mine.csv --out OUT
    ecg-jax evaluate fit ENCODER --records SHARDS --labels mine.csv --save DIR      (a head to take away; --help tells)
    ecg-jax evaluate predict DIR SHARDS --out scores.csv
    ecg-jax evaluate validate DIR SHARDS --labels theirs.csv --out OUT

Beside every encoder stand its architecture at random initialisation (three seeds), principal components, and features
by hand read by boosted trees. Folds 1 to 8 are trained on, fold 9 is scored, and the sealed fold is never read. Writes
OUT/evaluations.csv, differences.csv, left_out.csv and a page per encoder; features are kept below OUT/features.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from ecg_jax.data.ecg import LEADS, RecordPool
from ecg_jax.data.exclusions import Exclusion
from ecg_jax.data.real import data_dir_from_environment
from ecg_jax.data.real.datasets.prepare import prepare_ptbxl
from ecg_jax.data.storage.shards import open_shards
from ecg_jax.evaluate import head_commands
from ecg_jax.evaluate.features import Extractor, of_adapter, of_encoder
from ecg_jax.evaluate.judge import Probe
from ecg_jax.evaluate.labels import Task, read_labels, read_ptbxl_labels
from ecg_jax.evaluate.question import TRAINING_FOLDS, Question, ask, unsealed
from ecg_jax.evaluate.references import handmade, principal_components, random_encoders
from ecg_jax.evaluate.report import evaluate_all, write_tables
from ecg_jax.evaluate.targets import Target, measured_heart_rate, read_ptbxl_age, read_ptbxl_sex
from ecg_jax.terminal.command import command
from ecg_jax.terminal.stage import STDERR, Stage

#: What numbers and what sex a record tells, beside the tasks of PTB-XL.
NUMBERS, SEX = ("age", "heart-rate"), "sex"
PRIMARY = Task.SUPERDIAGNOSTIC.value
#: Components of the linear reference where no encoder says how wide it is.
WIDTH = 64


def read_records(options: argparse.Namespace) -> RecordPool:
    """The labelled records but for the sealed fold: shards that were built, or PTB-XL, prepared once below `--out`."""
    left_out: list[Exclusion] = []
    if options.records is not None:
        pool = open_shards(options.records, on_bad=left_out.append)
    else:
        folder = options.data_dir or data_dir_from_environment()
        with Stage(f"reading PTB-XL from {folder}", STDERR, "records") as stage:
            pool = prepare_ptbxl(folder, options.out / "data", on_bad=left_out.append, progress=stage)
    for exclusion in left_out:
        print(f"left out {exclusion.record_id}: {exclusion.reason}", file=sys.stderr)
    return unsealed(pool)


def questions_of(options: argparse.Namespace, pool: RecordPool) -> tuple[list[Question], list[Target]]:
    """The tasks and numbers that are asked for. Raises ValueError where one cannot be asked of these records."""
    if options.labels is not None:
        return [ask(read_labels(options.labels, options.prefix), pool)], []
    if options.records is not None:
        raise ValueError("--records are of no known labels: name a table of them with --labels")
    folder, questions, targets = options.data_dir or data_dir_from_environment(), [], []
    for name in options.tasks:
        if name in NUMBERS:
            targets.append(read_ptbxl_age(folder) if name == "age" else measured_heart_rate(pool))
        else:
            read = read_ptbxl_sex(folder) if name == SEX else read_ptbxl_labels(folder, Task(name))
            questions.append(ask(read, pool))
    return questions, targets


def extractors_of(options: argparse.Namespace, pool: RecordPool) -> list[Extractor]:
    """The encoders that are named, and the references beside them. Raises ValueError for two of one name."""
    leads = tuple(options.leads)
    if options.adapter is not None:
        rate_hz = pool.sample_rate_hz
        found = [of_adapter(options.adapter, path, sample_rate_hz=rate_hz, leads=leads) for path in options.encoders]
    else:
        found = [of_encoder(path, leads=leads) for path in options.encoders]
    if options.references:
        configs = {e.encoder.config.model: e.encoder.config for e in found if e.encoder is not None}
        width = max((config.model.width for config in configs.values()), default=WIDTH)
        found += [random for config in configs.values() for random in random_encoders(config)]
        found += [principal_components(pool.in_folds(TRAINING_FOLDS), width), handmade(pool.sample_rate_hz)]
    names = [extractor.name for extractor in found]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"{twice[0]!r} is named twice: give each encoder once")
    return found


def add_records(p: argparse.ArgumentParser) -> None:
    """Options that say which records and labels."""
    p.add_argument("--records", type=Path, metavar="SHARDS", help="a set that ecg-jax build made (default: PTB-XL)")
    p.add_argument("--labels", type=Path, metavar="TABLE", help="a table with the columns record and label")
    p.add_argument("--prefix", default="", help="put before each name of a record in the table, such as mine/")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = argparse.ArgumentParser(
        prog="ecg-jax evaluate", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("encoders", type=Path, nargs="+", metavar="ENCODER", help="folders of encoders, or a foreign model")
    p.add_argument("--out", type=Path, required=True, metavar="DIR", help="where tables, pages and features go")
    p.add_argument("--data-dir", type=Path, help="the folder that holds PTB-XL (default: $ECG_DATA_DIR)")
    add_records(p)
    choices = [*(task.value for task in Task), SEX, *NUMBERS]
    p.add_argument("--tasks", nargs="+", choices=choices, default=[PRIMARY], metavar="TASK", help=", ".join(choices))
    p.add_argument(
        "--probes",
        nargs="+",
        type=Probe,
        choices=[Probe.LINEAR, Probe.NEIGHBOURS, Probe.ATTENTION],
        default=[Probe.LINEAR, Probe.NEIGHBOURS],
        metavar="PROBE",
        help="linear, 'nearest neighbours', attention (the first two)",
    )
    p.add_argument("--adapter", type=Path, metavar="FILE.py", help="load(path) and features(…) of a foreign model; run")
    p.add_argument("--leads", nargs="+", default=list(LEADS), metavar="LEAD", help="show the encoder these leads alone")
    p.add_argument("--resample", action="store_true", help="bring records to the encoder's rate where it is another")
    p.add_argument("--no-references", dest="references", action="store_false", help="leave out what stands beside")
    return p


@command
def main(arguments: Sequence[str] | None = None) -> int | None:
    """The command line's entry."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words and words[0] in head_commands.COMMANDS:
        return head_commands.COMMANDS[words[0]](words[1:])
    options = parser().parse_args(words)
    pool = read_records(options)
    questions, targets = questions_of(options, pool)
    extractors = extractors_of(options, pool)
    with Stage(f"evaluating {len(extractors)} extractors on {len(pool):,} records", STDERR) as stage:
        tables = evaluate_all(
            extractors,
            questions,
            targets,
            pool,
            probes=options.probes,
            cache=options.out / "features",
            resample=options.resample,
            progress=stage.at,
        )
        write_tables(tables, options.out)
    macro = tables.evaluations[tables.evaluations["label"] == "macro"]
    shown = macro if len(macro) else tables.evaluations[tables.evaluations["metric"].isin(["auroc", "r2"])]
    print(shown[["run_id", "task", "label", "probe", "value", "low", "high"]].to_string(index=False))
    print(f"{options.out / 'differences.csv'} tells which of these differ; {options.out / 'pages'} tells each in full.")
    return None
