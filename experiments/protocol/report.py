"""One self-contained page: the question, what was run, figures, contrasts, law, and how to go bigger."""

from __future__ import annotations

import base64
import dataclasses
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from ecg_jax.config import RunConfig
from ecg_jax.evaluate.baselines import component_residual
from ecg_jax.files.html_page import fill
from ecg_jax.files.whole_file import write_text
from ecg_jax.store.layout import Store
from ecg_jax.train.training_data import TrainingData
from experiments.protocol import figures
from experiments.protocol.analysis import MIX, WARNING, Findings
from experiments.protocol.data import StudyData
from scaling_fits.contrasts.contrasts import PatientDifference
from scaling_fits.convergence.times import SpeedRatio
from scaling_fits.figures.run_figures import (
    contrast_forest,
    convergence_curves,
    loss_against_records,
    loss_against_size,
    save_figure,
)
from scaling_fits.tables.run_table import seed_summary

TEMPLATE = Path(__file__).with_name("report.html.jinja")
BIGGER = """source .venv/bin/activate
python -m experiments.quickstart --help
python -m experiments.quickstart --out out/larger --sizes 30000 100000 300000 1000000 \\
    --budgets 4096 8192 16384 --seeds 3
ecg-jax status out/larger/store
scaling-fits fit out/larger/runs.csv --law chinchilla --where real_fraction=0"""


def write(
    folder: Path,
    store: Store,
    runs: Sequence[RunConfig],
    training: TrainingData,
    data: StudyData,
    findings: Findings,
) -> None:
    """Writes `figures/` and `report.html`."""
    drawn = _figures(store, runs, training, data, findings)
    images = {}
    for name, (figure, table, caption) in drawn.items():
        _, png, _ = save_figure(figure, folder / "figures" / name, table.assign(target=data.target))
        images[name] = _image(png, caption)
    write_text(folder / "report.html", _page(images, runs, data, findings))


#: A figure, its data, and its caption.
Drawn = tuple[Figure, pd.DataFrame, str]


def _figures(
    store: Store, runs: Sequence[RunConfig], training: TrainingData, data: StudyData, findings: Findings
) -> dict[str, Drawn]:
    drawn = _figures_of_runs(findings, data.note or None) | _figures_of_records(store, runs, training, data)
    if slopes := findings.contrasts:
        table = pd.DataFrame([{"contrast": s.name, "quantity": s.quantity, "slope": s.estimate} for s in slopes])
        figure = contrast_forest(slopes, title="Slopes in ln N", note=data.note or None)
        drawn["contrasts"] = (figure, table, "The contrasts' slopes in ln N: filled are the primary ones.")
    return drawn


def _figures_of_runs(findings: Findings, note: str | None) -> dict[str, Drawn]:
    row = findings.table.frame.iloc[0]
    lines = {"mean": row.loss_mean, "linear map across visible leads": row.loss_linear}
    summary = seed_summary(findings.table, ["real_fraction", "n_params", "records_seen"])
    axes = findings.table.frame[["trunk_id", "n_params", "real_fraction"]].drop_duplicates("trunk_id")
    curves = findings.curves.merge(axes, on="trunk_id")
    against_size = loss_against_size(
        summary, baselines=lines, fit=findings.law, title="Held-out loss against size", note=note
    )
    against_records = loss_against_records(summary, baselines=lines, title="Held-out loss against records", note=note)
    convergence = convergence_curves(
        curves, target=findings.target, baselines=lines, title="Loss at the stable rate", note=note
    )
    return {
        "loss_against_size": (
            against_size,
            summary,
            "Held-out loss against parameters in blocks, per budget and real fraction r; bars span the seeds. "
            "The grey line through r = 0 is the fitted law.",
        ),
        "loss_against_records": (
            against_records,
            summary,
            "Held-out loss against records seen. Numbers at the foot: epochs of real data at that point.",
        ),
        "convergence": (
            convergence,
            curves,
            "Learning curves of the trunks at their stable rate, under one mask per record; the marked loss is the "
            "target of the absolute convergence speed. They are never mixed with cooled-down points.",
        ),
    }


def _figures_of_records(
    store: Store, runs: Sequence[RunConfig], training: TrainingData, data: StudyData
) -> dict[str, Drawn]:
    largest = max(
        (r for r in runs if r.data.real_fraction in (MIX, runs[-1].data.real_fraction)),
        key=lambda r: (r.model.width * r.model.depth, r.data.real_fraction == MIX, r.budget_records, -r.seed),
    )
    sample, sample_table = figures.recordings(data.heldout.pool, training.source(runs[0]))
    if data.note:
        sample.suptitle(data.note, color="#B00020", fontsize=9)
    rebuilt, rebuilt_table = figures.reconstruction(store, largest, data.heldout)
    of_what = f" ({data.note})" if data.note else ""
    rebuilt.suptitle(f"Held-out record {data.heldout.pool.record_id[0]}{of_what}", fontsize=9)
    return {
        "recordings": (
            sample,
            sample_table,
            f"Recordings ({data.note or 'real'}) beside synthetic ones, filtered and z-scored per lead: what the model "
            "sees. Six of the twelve leads.",
        ),
        "reconstruction": (
            rebuilt,
            rebuilt_table,
            f"A masked reconstruction by the largest model at r = {largest.data.real_fraction:g} and the largest "
            "budget. Shaded cells were hidden.",
        ),
    }


def _page(images: dict[str, tuple[str, str]], runs: Sequence[RunConfig], data: StudyData, findings: Findings) -> str:
    losses = _Grid.of(findings.table.frame, {"n_params": "parameters", "records_seen": "records"}, "loss", ".4f")
    closing = findings.closing.assign(target=data.target)
    laws = {"Pure synthetic": findings.law, "All mixes": findings.mixed_law}
    return fill(
        TEMPLATE,
        images=images,
        data=data,
        warning=WARNING,
        what_was_run=_what_was_run(runs, data, findings),
        losses=losses,
        laws={title: str(law) for title, law in laws.items() if law is not None},
        contrasts=[str(slope) for slope in findings.contrasts],
        refused=findings.refused,
        paired={name: _paired(difference) for name, difference in findings.paired.items()},
        speed={name: _ratio(ratio) for name, ratio in findings.speed.items()},
        closing=_Grid.of(closing, {"n_params": "parameters"}, "records", ",.0f"),
        bigger=BIGGER,
    )


def _what_was_run(runs: Sequence[RunConfig], data: StudyData, findings: Findings) -> str:
    def listed(values: set[float]) -> str:
        return ", ".join(f"{value:,g}" if value < 1000 else f"{value:,.0f}" for value in sorted(values))

    frame, pool, held = findings.table.frame, data.training, data.heldout.pool
    target, row = data.target, frame.iloc[0]
    widths = sorted({run.model.width for run in runs})
    residual = component_residual(data.heldout, data.training, runs[0].model.patch_samples, widths)
    components = ", ".join(f"{residual[width]:.3f} ({width})" for width in widths)
    return (
        f"{len(frame)} runs: {listed(set(frame.n_params))} parameters x real fractions r "
        f"{listed(set(frame.real_fraction))} x {listed(set(frame.records_seen))} records x {frame.seed.nunique()} "
        f"seed(s), batches of {runs[0].batch_records}. Training data: {target}, {len(pool):,} records of "
        f"{len(set(pool.patient_id)):,} patients in folds 1-8, and unlimited synthetic records. The loss is the mean "
        f"squared error of reconstructing hidden (200 ms x lead unit) cells of z-scored records, on {len(held)} "
        f"records of {len(set(held.patient_id))} patients in fold 9 ({target}), "
        f"under {data.heldout.hidden.shape[1]} masks each. "
        f"Reference lines on the same masks: mean {row.loss_mean:.3f}, best linear map across visible leads "
        f"{row.loss_linear:.3f}; the share of a patch's energy that as many principal components as a model is wide "
        f"leave: {components}. Left out: {len(data.excluded)} recordings, {findings.table.excluded or 'no'} runs."
    )


@dataclasses.dataclass(frozen=True)
class _Grid:
    """A table as text."""

    caption: str
    head: list[str]
    rows: list[list[str]]

    @classmethod
    def of(cls, frame: pd.DataFrame, rows: dict[str, str], value: str, form: str) -> _Grid:
        """Medians over seeds of `value`, a column per real fraction; `rows` maps columns that name rows to heads."""
        grid = frame.groupby([*rows, "real_fraction"])[value].median().unstack()
        lines = []
        for keys, values in grid.iterrows():
            names = [f"{key:,}" for key in (keys if isinstance(keys, tuple) else (keys,))]
            lines.append(names + [format(number, form) if pd.notna(number) else "not reached" for number in values])
        head = [*rows.values(), *(f"r = {fraction:g}" for fraction in grid.columns)]
        return cls(f"{value}: {frame['target'].iloc[0]}", head, lines)


def _paired(difference: PatientDifference) -> str:
    spread = f" ± {difference.standard_error:.3f}" if difference.standard_error is not None else ""
    return f"{difference.estimate:+.3f}{spread}: {difference.verdict.replace('a is', f'r = {MIX:g} is')}"


def _ratio(ratio: SpeedRatio) -> str:
    if ratio.ratio is not None:
        return f"{ratio.ratio:.2f} ({ratio.pairs} pairs of trunks) to reach a loss of {ratio.target:.3f}"
    bound = f"{ratio.bound[0]} {ratio.bound[1]:.2f}; " if ratio.bound else ""
    return f"{bound}no ratio to a loss of {ratio.target:.3f} ({ratio.reason})"


def _image(path: Path, caption: str) -> tuple[str, str]:
    """Its address, the whole image in it, and its caption."""
    return f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}", caption
