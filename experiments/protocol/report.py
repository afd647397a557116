"""One self-contained page: the question, what was run, figures, contrasts, law, and how to go bigger."""

from __future__ import annotations

import base64
import html
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from ecg_jax.config import RunConfig
from ecg_jax.evaluate.baselines import component_residual
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

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; color: #1a1a1a; }
h1 { font-size: 1.6rem; line-height: 1.25; } h2 { font-size: 1.2rem; margin-top: 2.2rem; }
figure { margin: 1rem 0; } img { max-width: 100%; } figcaption { font-size: .87rem; color: #444; }
table { border-collapse: collapse; font-size: .9rem; } td, th { padding: .2rem .7rem; text-align: right; }
th { border-bottom: 1px solid #999; } td:first-child, th:first-child { text-align: left; }
caption { font-size: .87rem; color: #444; text-align: left; }
.note { background: #fdecea; border-left: 4px solid #b00020; padding: .6rem 1rem; }
.warning { background: #fff6e0; border-left: 4px solid #e69f00; padding: .6rem 1rem; }
code, pre { font-size: .87rem; background: #f4f4f4; } pre { padding: .7rem; overflow-x: auto; }
"""

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


def _page(images: dict[str, str], runs: Sequence[RunConfig], data: StudyData, findings: Findings) -> str:
    note = f'<p class="note"><strong>{html.escape(data.note)}.</strong> The target recordings of this run were made by '
    note += "a generator. Set ECG_DATA_DIR to a folder of PTB-XL for real ones.</p>"
    frozen = (
        "These are the records and masks that the pilot froze."
        if data.frozen
        else "These are not the records that the pilot froze: compare losses within this page only."
    )
    parts = [
        "<h1>How does model size affect what an ECG foundation model learns from synthetic, mixed and real data?</h1>",
        note if data.note else "",
        f'<p class="warning">{html.escape(WARNING)}</p>',
        "<h2>What was run</h2>",
        f"<p>{_what_was_run(runs, data, findings)} {frozen}</p>",
        _table(findings.table.frame, {"n_params": "parameters", "records_seen": "records"}, "loss", ".4f"),
        "<h2>Loss against size</h2>",
        images["loss_against_size"],
        _law(findings),
        "<h2>Loss against data</h2>",
        images["loss_against_records"],
        "<h2>Contrasts</h2>",
        images.get("contrasts", ""),
        _list(str(slope) for slope in findings.contrasts),
        _refused(findings),
        "<p>Paired over patients, on the same masks, at the largest budget (difference of ln loss):</p>",
        _list(f"{name}: {_paired(difference)}" for name, difference in findings.paired.items()),
        "<h2>Convergence</h2>",
        images["convergence"],
        _list(f"{name}: {_ratio(ratio)}" for name, ratio in findings.speed.items()),
        "<p>Records that close 90 % of the gap between the mean baseline and the trunk's own last loss "
        "(medians over seeds):</p>",
        _table(findings.closing.assign(target=data.target), {"n_params": "parameters"}, "records", ",.0f"),
        "<h2>Recordings</h2>",
        images["recordings"],
        images["reconstruction"],
        "<h2>How to go bigger</h2>",
        f"<pre>{html.escape(BIGGER)}</pre>",
        "<p>Every row of <code>runs.csv</code> holds every axis as a column; <code>fits.json</code> every number on "
        "this page; <code>figures/</code> each figure as PDF, PNG and CSV.</p>",
    ]
    body = "\n".join(part for part in parts if part)
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><meta name="viewport" '
        'content="width=device-width, initial-scale=1"><link rel="icon" href="data:,">'
        f"<title>ecg-jax: quickstart{html.escape(f' ({data.note})' if data.note else '')}</title>"
        f"<style>{STYLE}</style></head><body>\n{body}\n</body></html>\n"
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


def _table(frame: pd.DataFrame, rows: dict[str, str], value: str, form: str) -> str:
    """Medians over seeds of `value`, a column per real fraction; `rows` maps the columns that name rows to heads."""
    grid = frame.groupby([*rows, "real_fraction"])[value].median().unstack()
    head = [*rows.values(), *(f"r = {fraction:g}" for fraction in grid.columns)]
    lines = [f"<tr>{''.join(f'<th>{html.escape(name)}</th>' for name in head)}</tr>"]
    for keys, values in grid.iterrows():
        names = [f"{key:,}" for key in (keys if isinstance(keys, tuple) else (keys,))]
        cells = names + [format(number, form) if pd.notna(number) else "not reached" for number in values]
        lines.append(f"<tr>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>")
    caption = f"<caption>{html.escape(value)}: {html.escape(str(frame['target'].iloc[0]))}</caption>"
    return f"<table>{caption}{''.join(lines)}</table>"


def _law(findings: Findings) -> str:
    laws = {"Pure synthetic": findings.law, "All mixes": findings.mixed_law}
    shown = {title: html.escape(str(law)) for title, law in laws.items() if law is not None}
    return "".join(f"<h3>{title}</h3><pre>{text}</pre>" for title, text in shown.items())


def _paired(difference: PatientDifference) -> str:
    spread = f" ± {difference.standard_error:.3f}" if difference.standard_error is not None else ""
    return f"{difference.estimate:+.3f}{spread}: {difference.verdict.replace('a is', f'r = {MIX:g} is')}"


def _ratio(ratio: SpeedRatio) -> str:
    if ratio.ratio is not None:
        return f"{ratio.ratio:.2f} ({ratio.pairs} pairs of trunks) to reach a loss of {ratio.target:.3f}"
    bound = f"{ratio.bound[0]} {ratio.bound[1]:.2f}; " if ratio.bound else ""
    return f"{bound}no ratio to a loss of {ratio.target:.3f} ({ratio.reason})"


def _refused(findings: Findings) -> str:
    return _list(f"{part}: {reason}" for part, reason in findings.refused.items())


def _list(items: object) -> str:
    lines = "".join(f"<li>{html.escape(str(item))}</li>" for item in items)
    return f"<ul>{lines}</ul>" if lines else ""


def _image(path: Path, caption: str) -> str:
    data = base64.b64encode(path.read_bytes()).decode()
    text = html.escape(caption)
    return f'<figure><img alt="{text}" src="data:image/png;base64,{data}"><figcaption>{text}</figcaption></figure>'
