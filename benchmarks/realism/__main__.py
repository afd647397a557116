"""Realism of every tier and of NeuroKit2 against real recordings: distances, classifiers, transfer, shortcut audit.

ECG_DATA_DIR=... python -m benchmarks.realism --out results/benchmarks/realism

About 15 minutes on two cores; `--quick` takes two or three. Reads PTB-XL's folds 1 to 8 and LUDB; never folds 9, 10.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from benchmarks.harness import machine
from benchmarks.harness.options import add_out
from benchmarks.harness.writing import write_csv, write_figure, write_json
from benchmarks.realism import compare, figures, report, sources, transfer
from benchmarks.realism.compare import Settings
from benchmarks.realism.features import Described, describe
from benchmarks.realism.network import Training
from benchmarks.realism.sources import Records
from ecg_jax.data.ecg import RecordPool
from ecg_jax.data.real import data_dir_from_environment
from ecg_jax.data.synthetic.render.identity import fingerprint
from ecg_jax.data.synthetic.render.tiers import Tier, recipe
from experiments.protocol.neurokit import require_neurokit

FULL = Settings()
QUICK = Settings(
    records=96,
    peer_records=16,
    seeds=1,
    draws=20,
    training=Training(steps=60),
    transfer_training=Training(steps=60),
    tiers=(Tier.NOISE, Tier.ECGSYN, Tier.ACQUISITION, Tier.FITTED),
    transfer_tiers=(Tier.ACQUISITION,),
    transfer_records=(192,),
)
FLOOR = "PTB-XL, other half"


def main() -> None:
    """Reads the options and runs everything."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_out(parser, "realism")
    parser.add_argument("--cache", type=Path, default=Path("out/cache"), help="where PTB-XL is prepared once")
    parser.add_argument("--quick", action="store_true", help="a smoke run: few records, one seed, four tiers")
    options = parser.parse_args()
    require_neurokit()
    data_dir = data_dir_from_environment()
    run(data_dir, options.out, options.cache, QUICK if options.quick else FULL)


def run(data_dir: Path, out: Path, cache: Path, settings: Settings) -> None:
    """Compares every source with PTB-XL and with LUDB, and writes tables and figures into `out`."""
    console, before = report.console(), machine.describe()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as bar:
        fit, test = sources.ptbxl_halves(data_dir, cache)
        reference = sources.of_pool("PTB-XL", test, settings.records)
        found = _sources(data_dir, fit, settings, bar)
        ludb = found["LUDB"]
        second, half = compare.split_half(ludb)
        described = {}
        task = bar.add_task("measuring", total=len(found) + 3)
        for records in (reference, *found.values(), second, half):
            described[id(records)] = describe(records.counts)
            bar.advance(task)

        def measured(chosen: dict[str, Records]) -> dict[str, tuple[Records, Described]]:
            return {name: (records, described[id(records)]) for name, records in chosen.items()}

        against = measured({"PTB-XL": reference, "LUDB": second})
        others = {
            "PTB-XL": measured(found),
            "LUDB": measured({name: found[name] for name in found if name != "LUDB"} | {"LUDB, other half": half}),
        }
        task = bar.add_task("comparing", total=sum(map(len, others.values())))
        rows, audits = [], []
        for name, (records, known) in against.items():
            embedding = compare.embedding(known.embedding.values)
            for other_name, (other, other_known) in others[name].items():
                bar.update(task, description=f"{other_name} against {name}")
                label = {"reference": name, "source": other_name}
                rows += [label | row for row in compare.distances(known, other_known, embedding, settings)]
                rows += [label | row for row in compare.told_apart(records, known, other, other_known, settings)]
                audits += [label | row for row in compare.audits(records, known, other, other_known, settings)]
                bar.advance(task)
        transferred = _transfer(fit, test, settings, bar)
    tables = report.tables(rows + transferred, audits, against, others)
    for name, table in tables.items():
        write_csv(table, out / f"{name}.csv")
    write_json(_tree(before, settings, found, tables, fit, test), out / "realism.json")
    for name, figure in figures.all_figures(tables, others["PTB-XL"] | {"PTB-XL": against["PTB-XL"]}, FLOOR).items():
        write_figure(figure, out / name)
    for printed in report.printed(tables):
        console.print(printed)
    console.print(f"wrote {out}")


def _sources(data_dir: Path, fit: RecordPool, settings: Settings, bar: Progress) -> dict[str, Records]:
    """All sets that are compared with a reference, by name, in the order of the figures."""
    task = bar.add_task("rendering", total=len(settings.tiers) + len(sources.NEUROKIT))
    found = {}
    for tier in settings.tiers:
        bar.update(task, description=f"rendering {tier.value}")
        known = fit.take(compare.evenly(len(fit), settings.records)) if recipe(tier).needs_priors else fit
        found[tier.value] = sources.of_tier(tier, known, settings.records)
        bar.advance(task)
    for name in reversed(sources.NEUROKIT):
        count = settings.peer_records
        each = bar.add_task(name, total=count)
        found[name] = sources.neurokit(name, count, lambda done, each=each: bar.update(each, completed=done))
        bar.advance(task)
    found["LUDB"] = sources.ludb(data_dir / "ludb", settings.records)
    found[FLOOR] = sources.of_pool(FLOOR, fit, settings.records)
    return found


def _transfer(fit: RecordPool, test: RecordPool, settings: Settings, bar: Progress) -> list[dict[str, object]]:
    """Rows of training on a tier, or on the other half of the real records, and testing on the real half."""
    task = bar.add_task("train on synthetic, test on real", total=1 + len(settings.transfer_tiers))
    held_out = transfer.real_set(test)
    real = transfer.real_set(fit)
    rows = compare.transferred(FLOOR, real, held_out, settings)
    bar.advance(task)
    for tier in settings.transfer_tiers:
        records, labels = transfer.synthetic_set(tier, max(settings.transfer_records))
        for count in settings.transfer_records:
            rows += compare.transferred(tier.value, (records[:count], labels[:count]), held_out, settings)
        bar.advance(task)
    return rows


def _tree(before, settings, found, tables, fit, test) -> dict[str, object]:
    """Everything as one JSON document."""
    return {
        "machine": before,
        "settings": settings.plain(),
        "generator": fingerprint(recipe(Tier.ACQUISITION)),
        "real": {
            "PTB-XL, fitted to": {"records": len(fit), "patients": len(set(fit.patient_id.tolist()))},
            "PTB-XL, compared with": {"records": len(test), "patients": len(set(test.patient_id.tolist()))},
            "folds": list(sources.TRAIN_FOLDS),
        },
        "real_information": {name: records.real_information for name, records in found.items()},
        **{name: report.rows(tables[name]) for name in ("realism", "shortcuts")},
    }


if __name__ == "__main__":
    main()
