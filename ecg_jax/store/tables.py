"""Finished runs as tables."""

from __future__ import annotations

import dataclasses
import logging
import os
from pathlib import Path
from typing import Any

import pandas as pd

from ecg_jax.config import RunConfig
from ecg_jax.files.whole_file import write_texts
from ecg_jax.notebook import facts_as_html
from ecg_jax.store.finished import (
    Finished,
    check_alike,
    check_curves,
    read_config,
    read_curves,
    read_log,
    read_patients,
    read_record,
    read_sources,
)
from ecg_jax.store.layout import Store, parse_configs, read_study
from ecg_jax.store.metrics_log import LOG, read_metrics

_log = logging.getLogger(__name__)

#: Columns that tell of the machine and not of the result: equal runs may differ in them.
MACHINE_COLUMNS = (
    "seconds",
    "segments",
    "pack_size",
    "placement",
    "records_per_second",
    "flops_per_second",
    "utilisation",
    "input_wait",
    "saving_seconds",
    "memory_mib",
)
#: Columns to be read as text.
IDENTITIES = {"run_id": str, "trunk_id": str}


@dataclasses.dataclass(frozen=True)
class Run:
    """A finished run as tables: its config, its record, the loss of every patient under every mask, what was logged of
    its cool-down, and its trunk's curve and log (None where the store does not hold the trunk)."""

    config: RunConfig
    record: dict[str, Any]
    patients: pd.DataFrame
    metrics: pd.DataFrame
    trunk_metrics: pd.DataFrame | None
    curve: pd.DataFrame | None

    def __repr__(self) -> str:
        c, loss, patients = self.config, self.record["loss"], self.patients["patient_id"].nunique()
        told = "diverged" if loss is None else f"loss {loss:.4g}"
        return f"<Run {c.run_id} of {c.study}: {c.budget_records:,} records, {told} on {patients:,} patients>"

    def _repr_html_(self) -> str:
        return facts_as_html(repr(self), self.record)


def load_run(path: str | os.PathLike[str]) -> Run:
    """The finished run in the folder `path`, `STORE/<study>/runs/<run_id>`, as tables.

    Raises FileNotFoundError when no finished run is there, and ValueError, naming the file, when one of its files was
    damaged.
    """
    folder = Path(path)
    if not (folder / "record.json").is_file():
        raise FileNotFoundError(f"{folder} holds no finished run: it has no record.json")
    config, run = read_config(folder), read_record(folder)
    trunk = Store(folder.parents[2], folder.parents[1].name).trunk(config)
    return Run(
        config=config,
        record=run.record,
        patients=read_patients([run]),
        metrics=pd.DataFrame(read_log(run, config)),
        trunk_metrics=pd.DataFrame(read_metrics(trunk / LOG)) if (trunk / LOG).exists() else None,
        curve=read_curves({trunk: [(config, run)]}) if trunk.exists() else None,
    )


def export(store: Store, directory: Path) -> dict[str, Path]:
    """Writes `runs.csv` (a row per finished run), `patients.csv`, `sources.csv` (what each real source gave a run) and
    `curve.csv` of a study, in a fixed order; all of them, or none.

    Raises FileNotFoundError when no run is done yet, and FileNotFoundError or ValueError, naming the file, when a file
    of a finished run is missing, cut or of another shape.
    """
    path = store.path / "study.json"
    study = read_study(path)
    done = [
        (config, store.finished(config)) for config in parse_configs(path, study["targets"]) if store.is_done(config)
    ]
    if not done:
        raise FileNotFoundError(f"no run of {store.path} is done yet: nothing to export")
    finished = [run for _, run in done]
    check_alike(finished)
    trunks: dict[Path, list[tuple[RunConfig, Finished]]] = {}
    for config, run in done:
        trunks.setdefault(store.trunk(config), []).append((config, run))
    curves = read_curves(trunks)
    check_curves(trunks)
    runs = pd.DataFrame([run.record for run in finished])
    keys = [key for key in ("n_params", "real_fraction", "seed", "records_seen", "run_id") if key in runs]
    tables = {
        "runs": runs.sort_values(keys, kind="stable"),
        "patients": read_patients(finished),
        "curve": curves.sort_values(["trunk_id", "records_seen"]),
    }
    sources = read_sources(finished)
    if sources is not None:
        tables["sources"] = sources
        if without := len(done) - sources["run_id"].nunique():
            _log.warning("%s: %d runs of an earlier version have no sources.csv", store.path, without)
    if target := study["settings"].get("target"):
        tables = {name: table.assign(target=target) for name, table in tables.items()}
    paths = {name: directory / f"{name}.csv" for name in tables}
    write_texts({paths[name]: table.to_csv(index=False, lineterminator="\n") for name, table in tables.items()})
    return paths
