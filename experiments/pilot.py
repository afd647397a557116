"""Is the proposed response fit to be a scaling law's? A pilot, on fold 9 only, before anything is built on it.

Question: do losses under lead x time masks (seven units, ratio 0.6, patches of 200 ms) fall smoothly with records and
with size for r = 0, 0.5 and 1; how far are trivial predictors from them; how large is the noise between seeds and
masks; do positional coding and patch length matter?

Command:   python -m experiments.pilot --data-dir DIR --out out/pilot
Hardware:  2 CPU cores. Wall time: about 20 minutes.
Writes:    OUT/store, and to --results (default results/pilot): runs.csv, baselines.csv, curve.csv, response.json,
           pilot.png. The result is told in results/pilot/README.md.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from rich.console import Console
from wfdb.processing import xqrs_detect

from ecg_jax.config import DataConfig, ModelConfig, Position, RunConfig
from ecg_jax.data.ecg import LEADS, RecordPool
from ecg_jax.data.exclusions import Exclusion
from ecg_jax.data.real.datasets import ptbxl
from ecg_jax.data.real.datasets.prepare import prepare_ptbxl
from ecg_jax.data.synthetic import SyntheticSource, Tier, fingerprint, recipe
from ecg_jax.distributed import backend
from ecg_jax.evaluate import heldout as held
from ecg_jax.evaluate.baselines import component_residual
from ecg_jax.evaluate.response import Response, response_of
from ecg_jax.files.whole_file import read_json, whole_file, write_json, write_text
from ecg_jax.objectives import masked
from ecg_jax.scaling import ladder
from ecg_jax.store.layout import open_store
from ecg_jax.store.tables import IDENTITIES, MACHINE_COLUMNS, export
from ecg_jax.study.run_study import run_study
from ecg_jax.study.sweep import grid
from ecg_jax.terminal.command import command
from ecg_jax.terminal.stage import STDERR, Stage
from ecg_jax.train.training_data import TrainingData
from experiments.protocol.data import PATCH_MS, VALIDATION_FOLD, split, tell_left_out
from experiments.protocol.dry_run import add_dry_run, is_dry_run, pace_of, print_forecast
from experiments.protocol.options import add_data_dir, add_out, add_results, real_data_dir

SIZES = (30_000, 100_000, 300_000)
FRACTIONS = (0.0, 0.5, 1.0)
BUDGETS = (2048, 4096, 8192, 16384)
PROBE_SIZE = 100_000
#: The step of the realism ladder of the synthetic arms: healthy hearts, no noise.
TIER = Tier.ANATOMY


def base(model: ModelConfig, training: str, response: str) -> RunConfig:
    """The pilot's run of a model, at r = 0.5 and the largest budget; the identities of its data."""
    return RunConfig(
        study="pilot",
        model=model,
        data=DataConfig(
            real_fraction=0.5, real_source=training, synthetic_source=fingerprint(recipe(TIER)), tier=TIER.value
        ),
        optim=ladder.optim_config(),
        budget_records=BUDGETS[-1],
        response=response,
    )


def patch_model(patch_ms: int, **changes: object) -> ModelConfig:
    """The probe's model on patches of `patch_ms` at 100 Hz."""
    return ladder.model_config(PROBE_SIZE, patch_ms=patch_ms, **changes)


def targets(training: str, responses: dict[int, str]) -> list[RunConfig]:
    """All runs; `training` is the identity of the training records, `responses` maps a patch length (ms) to that of its
    frozen records and masks."""
    standard = responses[200]
    runs = []
    for size in SIZES:
        cell = base(ladder.model_config(size), training, standard)
        runs += grid(cell, {"data.real_fraction": FRACTIONS, "budget_records": BUDGETS})
        # Neighbouring rates, a factor of two to either side: is the ladder's formula near the best?
        rate = cell.optim.learning_rate
        runs += grid(cell, {"optim.learning_rate": (rate / 2, rate * 2), "budget_records": BUDGETS[1:2]})
    probe = base(ladder.model_config(PROBE_SIZE), training, standard)
    runs += grid(probe, {"seed": (1, 2), "data.real_fraction": FRACTIONS[1:2], "budget_records": BUDGETS[1:4:2]})
    for position in (Position.SINUSOIDAL, Position.ROTARY):
        runs += grid(base(patch_model(200, position=position), training, standard), {"budget_records": BUDGETS[1:4:2]})
    for patch_ms in sorted(responses.keys() - {200}):
        runs += grid(base(patch_model(patch_ms), training, responses[patch_ms]), {"budget_records": BUDGETS[1:4:2]})
    return runs


def beat_copying(sample_rate_hz: int) -> Callable[[np.ndarray], masked.Predict]:
    """Copying: a hidden sample is the mean of the visible samples of its lead that lie at the same time from their
    beat's R peak. R peaks are found on the whole lead II, so this is a favourable estimate."""

    def predict_of(x_SxE: np.ndarray) -> masked.Predict:
        peaks = xqrs_detect(x_SxE[:, LEADS.index("II")].astype(float), fs=sample_rate_hz, verbose=False)
        phase_S = _phase(np.asarray(peaks, int), len(x_SxE))

        def predict(visible_SxE: np.ndarray, hidden_SxU: np.ndarray) -> np.ndarray:
            sums, counts = np.zeros((2, phase_S.max() + 1, visible_SxE.shape[1]))
            np.add.at(sums, phase_S, visible_SxE)
            np.add.at(counts, phase_S, ~hidden_SxU[:, masked.UNIT_OF_LEAD])
            return (sums / np.maximum(counts, 1))[phase_S]

        return predict

    return predict_of


def _phase(peaks: np.ndarray, samples: int) -> np.ndarray:
    """Samples since 30 samples before the R peak that a sample belongs to; without peaks every phase is its own."""
    if len(peaks) == 0:
        return np.arange(samples)
    starts = np.maximum(peaks - 30, 0)
    owner = np.clip(np.searchsorted(starts, np.arange(samples), side="right") - 1, 0, None)
    phase = np.arange(samples) - (peaks - 30)[owner]
    return phase - phase.min()


def baselines(response: Response, training: RecordPool) -> pd.DataFrame:
    """The trivial predictors' losses."""
    heldout = response.heldout
    copying = masked.baseline_errors(heldout, beat_copying(heldout.pool.sample_rate_hz))
    rows = {
        "mean": response.references["loss_mean"],
        "linear map across visible leads": response.references["loss_linear"],
        "beat copying": held.overall(copying, heldout),
    }
    residuals = component_residual(heldout, training, 20, [16, 24, 32, 48, 64, 80])
    rows |= {f"{width} principal components of a patch": value for width, value in residuals.items()}
    return pd.DataFrame({"baseline": rows.keys(), "loss": rows.values()})


def mask_noise(runs: pd.DataFrame, patients: pd.DataFrame) -> pd.DataFrame:
    """Per run: standard error over patients, and the standard deviation between masks of the loss of one mask."""
    by_patient = patients.groupby(["run_id", "patient_id"])["loss"].mean().groupby("run_id")
    by_mask = patients.groupby(["run_id", "mask"])["loss"].mean().groupby("run_id")
    noise = pd.DataFrame({"patient_se": by_patient.sem(), "mask_sd": by_mask.std()})
    return runs.merge(noise, left_on="run_id", right_index=True)


def figure(runs: pd.DataFrame, lines: pd.DataFrame, curve: pd.DataFrame) -> plt.Figure:
    """Learning curves per size and arm, with the trivial predictors."""
    main = runs[(runs.seed == 0) & (runs.patch_ms == 200) & (runs.position == "learned") & runs.ladder_rate]
    sizes = sorted(main.n_params.unique())
    fig, axes = plt.subplots(1, len(sizes), figsize=(11, 3.6), sharey=True, layout="constrained")
    for axis, size in zip(axes, sizes, strict=True):
        for colour, fraction in zip(("#0072B2", "#D55E00", "#009E73"), FRACTIONS, strict=True):
            arm = main[(main.n_params == size) & (main.real_fraction == fraction)].sort_values("records_seen")
            axis.plot(arm.records_seen, arm.loss, "o-", color=colour, label=f"r = {fraction:g}, cooled down")
            steady = curve[curve.trunk_id.isin(arm.trunk_id)].sort_values("records_seen")
            axis.plot(steady.records_seen, steady.loss, ":", color=colour, lw=1)
        for (_, line), style in zip(lines.head(3).iterrows(), ("-", "--", "-."), strict=True):
            axis.axhline(line.loss, color="0.5", lw=1, ls=style, label=line.baseline)
        axis.set(xscale="log", yscale="log", title=f"{size:,} parameters", xlabel="records seen")
    axes[0].set_ylabel("held-out loss, fold 9")
    axes[-1].legend(fontsize=7)
    return fig


def _frozen(frozen: held.HeldOut, sketches: list[str], excluded: Sequence[Exclusion]) -> dict[str, object]:
    """What `response.json` keeps: records, masks, signals, and what was left out."""
    return {
        "response": frozen.identity,
        "records": len(frozen.pool),
        "patients": len(np.unique(frozen.pool.patient_id)),
        "fold": VALIDATION_FOLD,
        "masks_per_record": held.MASKS,
        "mask_seed": held.MASK_SEED,
        "mask_ratio": 0.6,
        "patch_ms": 200,
        "units": list(masked.UNITS),
        "record_ids": frozen.pool.record_id.tolist(),
        "sketches": sketches,
        "excluded": [f"{item.record_id}: {item.reason}" for item in excluded],
    }


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_data_dir(parser)
    add_out(parser, "pilot")
    add_results(parser, "pilot")
    add_dry_run(parser)
    return parser


@command
def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the pilot and writes its tables and figure."""
    parser = _parser()
    options = parser.parse_args(arguments)
    backend.configure()
    if is_dry_run(options):
        console = Console(highlight=False)
        print_forecast(console, targets("", dict.fromkeys((100, PATCH_MS, 250), "")), pace_of(options, console))
        return
    data_dir = real_data_dir(parser, options.data_dir)

    excluded: list[Exclusion] = []
    with Stage(f"reading PTB-XL from {data_dir}", STDERR, "records") as advance:
        pool = prepare_ptbxl(data_dir, options.out / "data", on_bad=excluded.append, progress=advance)
    validation = pool.in_folds((VALIDATION_FOLD,))
    origin = ptbxl.fingerprint(data_dir, pool.sample_rate_hz)
    data = split(pool, validation, origin=origin, excluded=tuple(excluded))
    tell_left_out(data, Console(highlight=False))
    training = data.training
    frozen = data.heldout
    heldouts = {PATCH_MS: frozen} | {ms: held.freeze(validation, 10_000 // ms) for ms in (100, 250)}
    path, now = options.results / "response.json", held.sketches(frozen.pool)
    before = read_json(path) if path.exists() else None
    if before and (before["response"] != frozen.identity or held.differing(frozen.pool, before.get("sketches", now))):
        parser.error(f"{path} froze another response: give another folder with --results")
    responses = {h.identity: response_of(h, training) for h in heldouts.values()}
    runs = targets(data.identity, {patch_ms: h.identity for patch_ms, h in heldouts.items()})

    settings = {"responses": sorted(responses), "training data": data.identity, "target": "PTB-XL"}
    store = open_store(options.out / "store", "pilot", runs, settings)
    synthetic = {fingerprint(recipe(TIER)): SyntheticSource(0, recipe(TIER))}
    run_study(store, runs, TrainingData(training, synthetic), responses)

    tables = {name: pd.read_csv(path, dtype=IDENTITIES) for name, path in export(store, options.out).items()}
    extra = pd.DataFrame(
        {
            "run_id": [run.run_id for run in runs],
            "ladder_rate": [run.optim == ladder.optim_config() for run in runs],
        }
    )
    table = mask_noise(tables["runs"], tables["patients"]).merge(extra, on="run_id")
    lines = baselines(responses[frozen.identity], training)
    runs = table.drop(columns=list(MACHINE_COLUMNS))
    for name, frame in {"runs": runs, "baselines": lines, "curve": tables["curve"]}.items():
        write_text(options.results / f"{name}.csv", frame.to_csv(index=False, lineterminator="\n"))
    with whole_file(options.results / "pilot.png") as image:
        figure(table, lines, tables["curve"]).savefig(image, dpi=150)
    write_json(path, _frozen(frozen, now, excluded))
    print(lines.to_string(index=False))


if __name__ == "__main__":
    raise SystemExit(main())
