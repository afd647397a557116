"""Several extractors through several tasks: the tables that `ecg-jax evaluate` writes, and a page per encoder."""

from __future__ import annotations

import dataclasses
import itertools
import re
from collections.abc import Callable, Sequence
from importlib import resources
from pathlib import Path

import numpy as np
import pandas as pd

from ecg_jax.data.ecg import RecordPool
from ecg_jax.evaluate.contract import COLUMNS
from ecg_jax.evaluate.features import Extractor, extract
from ecg_jax.evaluate.judge import (
    RESOLVED,
    Answer,
    Probe,
    answer,
    answer_number,
    answer_with_few_labels,
    difference,
    protocol,
)
from ecg_jax.evaluate.question import Question
from ecg_jax.evaluate.references import BOOSTED
from ecg_jax.evaluate.targets import Target
from ecg_jax.files.html_page import fill
from ecg_jax.files.whole_file import write_text

EVALUATIONS, DIFFERENCES, LEFT_OUT = "evaluations.csv", "differences.csv", "left_out.csv"
_TEMPLATE = resources.files("ecg_jax.evaluate") / "page.html.jinja"
_DIFFERENCE_COLUMNS = ("run_id", "other", "task", "probe", "metric", "value", "low", "high", "standard_error")


@dataclasses.dataclass(frozen=True)
class Tables:
    """`evaluations`: a figure per row, of `run_id` under `protocol`. `differences`: paired, one extractor less another.
    `left_out`: classes and targets that are not scored, and why."""

    evaluations: pd.DataFrame
    differences: pd.DataFrame
    left_out: pd.DataFrame


def evaluate_all(
    extractors: Sequence[Extractor],
    questions: Sequence[Question],
    targets: Sequence[Target],
    pool: RecordPool,
    *,
    probes: Sequence[Probe] = (Probe.LINEAR, Probe.NEIGHBOURS),
    cache: Path | None = None,
    resample: bool = False,
    progress: Callable[[str], None] = lambda far: None,
) -> Tables:
    """Every extractor in every question by every probe, and in every target. Features by hand are read by boosted trees
    alone; models without tokens are not read by attention. Raises ValueError as their parts do."""
    parts: list[pd.DataFrame] = []
    answers: dict[tuple[str, str], dict[str, Answer]] = {}
    protocols = {question.task: protocol(question, pool) for question in questions}
    for extractor in extractors:
        features = extract(extractor, pool, cache=cache, resample=resample)
        for how in _probes_of(extractor, probes):
            x = (
                extract(extractor, pool, cache=cache, resample=resample, tokens=True)
                if how is Probe.ATTENTION
                else features
            )
            for question in questions:
                progress(f"{extractor.name}: {question.task}, {how.value}")
                found = answer(question, x, how)
                answers.setdefault((question.task, how.value), {})[extractor.name] = found
                parts.append(_named(found.rows, extractor, protocols[question.task]))
                if how is Probe.LINEAR:
                    few = answer_with_few_labels(question, features)
                    parts.append(_named(few, extractor, protocols[question.task]))
        for target in targets:
            parts.append(_named(answer_number(target, pool, features), extractor, f"{target.name} fold 9"))
    evaluations = pd.concat([part for part in parts if len(part)], ignore_index=True)
    return Tables(evaluations, _differences(questions, answers), _left_out(questions, targets))


def _probes_of(extractor: Extractor, probes: Sequence[Probe]) -> list[Probe]:
    if extractor.name == BOOSTED:
        return [Probe.BOOSTED]
    return [how for how in probes if how is not Probe.ATTENTION or extractor.tokens is not None]


def _named(rows: pd.DataFrame, extractor: Extractor, under: str) -> pd.DataFrame:
    named = rows.assign(run_id=extractor.name, protocol=under)
    return named[["run_id", *COLUMNS, "protocol"]]


def _differences(questions: Sequence[Question], answers: dict[tuple[str, str], dict[str, Answer]]) -> pd.DataFrame:
    """Every pair, by each probe; features by hand, read by trees, against the others' linear probes."""
    rows = []
    for question in questions:
        by_hand = answers.get((question.task, Probe.BOOSTED.value), {})
        for (task, how), of in answers.items():
            if task != question.task or how == Probe.BOOSTED.value:
                continue
            compared = of | (by_hand if how == Probe.LINEAR.value else {})
            for one, other in itertools.combinations(compared, 2):
                found = difference(question, compared[one], compared[other])
                if found is not None:
                    figures = (found.value, found.low, found.high, found.standard_error)
                    rows.append((one, other, task, how, "macro auroc", *figures))
    return pd.DataFrame(rows, columns=list(_DIFFERENCE_COLUMNS))


def _left_out(questions: Sequence[Question], targets: Sequence[Target]) -> pd.DataFrame:
    rows = [(q.task, name, why) for q in questions for name, why in q.left_out.items()]
    rows += [(q.task, "", f"{q.unlabelled} records have no label of the task") for q in questions if q.unlabelled]
    rows += [(t.name, "", f"{t.unknown} records have no value") for t in targets if t.unknown]
    return pd.DataFrame(rows, columns=["task", "label", "reason"])


def resolvable(differences: pd.DataFrame, task: str, how: str) -> float:
    """The smallest difference of macro AUROC that this design finds four times in five; NaN where none was compared."""
    of = differences[(differences["task"] == task) & (differences["probe"] == how)]
    return float(RESOLVED * of["standard_error"].median())


def write_tables(tables: Tables, out: Path) -> None:
    """Writes the tables to `out`, and a page per extractor, `out/pages/NAME.html`."""
    for name, table in (
        (EVALUATIONS, tables.evaluations),
        (DIFFERENCES, tables.differences),
        (LEFT_OUT, tables.left_out),
    ):
        write_text(out / name, table.to_csv(index=False, lineterminator="\n", float_format="%.6g"))
    for name in tables.evaluations["run_id"].unique():
        file = re.sub(r"[^\w.-]+", "_", name)
        write_text(out / "pages" / f"{file}.html", page(tables, name))


def page(tables: Tables, name: str) -> str:
    """One extractor's figures, its differences to all others, and what they cannot tell, as HTML."""
    own = tables.evaluations[tables.evaluations["run_id"] == name].drop(columns="run_id")
    tasks = {str(task): of.drop(columns="task") for task, of in own.groupby("task", sort=False)}
    least = {
        task: {
            how: least
            for how in of["probe"].unique()
            if np.isfinite(least := resolvable(tables.differences, task, how))
        }
        for task, of in tasks.items()
    }
    pairs = tables.differences
    pairs = pairs[(pairs["run_id"] == name) | (pairs["other"] == name)]
    return fill(_TEMPLATE, name=name, tasks=tasks, least=least, pairs=pairs, left_out=tables.left_out)
