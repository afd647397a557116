"""The figures of recordings: real beside synthetic, and a masked reconstruction."""

from __future__ import annotations

import jax
import numpy as np
import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ecg_jax import models
from ecg_jax.config import RunConfig
from ecg_jax.data.ecg import INDEPENDENT_LEAD_INDICES, INDEPENDENT_LEADS, LEADS, RecordPool, Source, normalise
from ecg_jax.distributed.mesh import make_mesh, place_batch
from ecg_jax.encoder import load_weights
from ecg_jax.evaluate.heldout import HeldOut
from ecg_jax.objectives import masked
from ecg_jax.store.layout import Store

SHOWN_LEADS = ("I", "II", "aVF", "V1", "V2", "V5")
SECONDS = 4
OFFSET_SD = 7.0


def recordings(pool: RecordPool, synthetic: Source, count: int = 2) -> tuple[Figure, pd.DataFrame]:
    """The first `count` records of a pool beside synthetic ones, z-scored per lead as the model sees them."""
    panels = {f"{pool.record_id[i]}": pool.ecg[i] for i in range(count)}
    panels |= {f"synthetic/{i}": synthetic.read(np.array([i]))[0] for i in range(count)}
    figure = _figure(10, 4.6)
    samples = SECONDS * pool.sample_rate_hz
    time_s = np.arange(samples) / pool.sample_rate_hz
    tables = []
    for axes, (title, ecg) in zip(figure.subplots(1, 2 * count, sharey=True), panels.items(), strict=True):
        x_SxE = normalise(ecg)[:samples]
        for row, lead in enumerate(SHOWN_LEADS):
            trace = x_SxE[:, LEADS.index(lead)]
            axes.plot(time_s, trace - OFFSET_SD * row, lw=0.7, color="black")
            tables.append(pd.DataFrame({"record": title, "lead": lead, "time_s": time_s, "standard_deviations": trace}))
        axes.set_title(title, fontsize=9)
        axes.set(xlabel="s", yticks=-OFFSET_SD * np.arange(len(SHOWN_LEADS)), yticklabels=SHOWN_LEADS)
        axes.spines[["top", "right"]].set_visible(False)
    return figure, pd.concat(tables, ignore_index=True)


def reconstruction(store: Store, config: RunConfig, heldout: HeldOut, row: int = 0) -> tuple[Figure, pd.DataFrame]:
    """What a run whose encoder was kept makes of the hidden cells of one held-out record."""
    kept, params = load_weights(store.encoder(config))
    with jax.set_mesh(make_mesh(jax.devices()[:1])):
        x_1xSxE = place_batch(normalise(heldout.pool.ecg[[row]]))
        hidden_1xTxU = place_batch(heldout.hidden[[row], 0])
        predicted = np.asarray(models.build(kept.model).apply(params, x_1xSxE, masked.visible(x_1xSxE, hidden_1xTxU)))
    target_SxL = np.asarray(x_1xSxE)[0][:, INDEPENDENT_LEAD_INDICES]
    predicted_SxL = predicted[0].reshape(target_SxL.shape)
    patch = config.model.patch_samples
    hidden_SxL = np.repeat(heldout.hidden[row, 0], patch, axis=0)[:, masked.UNIT_OF_TARGET]
    return _reconstruction_figure(target_SxL, predicted_SxL, hidden_SxL, heldout.pool.sample_rate_hz)


def _reconstruction_figure(
    target_SxL: np.ndarray, predicted_SxL: np.ndarray, hidden_SxL: np.ndarray, sample_rate_hz: int
) -> tuple[Figure, pd.DataFrame]:
    samples = SECONDS * sample_rate_hz
    time_s = np.arange(samples) / sample_rate_hz
    figure = _figure(9, 5)
    axes = figure.subplots()
    tables = []
    for row, lead in enumerate(INDEPENDENT_LEADS):
        truth, guess = (x[:samples, row] - OFFSET_SD * row for x in (target_SxL, predicted_SxL))
        hidden = hidden_SxL[:samples, row]
        low, high = -OFFSET_SD * row - OFFSET_SD / 2, -OFFSET_SD * row + OFFSET_SD / 2
        axes.fill_between(time_s, low, high, where=hidden, step="post", color="#f1e3d3", lw=0)
        axes.plot(time_s, truth, color="black", lw=0.7, label="recording" if row == 0 else None)
        label = "reconstruction of hidden cells" if row == 0 else None
        axes.plot(time_s, np.where(hidden, guess, np.nan), color="#D55E00", lw=1.0, label=label)
        tables.append(
            pd.DataFrame(
                {
                    "lead": lead,
                    "time_s": time_s,
                    "recording": target_SxL[:samples, row],
                    "reconstruction": predicted_SxL[:samples, row],
                    "hidden": hidden,
                }
            )
        )
    axes.set(
        xlabel="s",
        yticks=-OFFSET_SD * np.arange(len(INDEPENDENT_LEADS)),
        yticklabels=INDEPENDENT_LEADS,
        xlim=(0, SECONDS),
    )
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="upper right", fontsize=7, ncols=2)
    return figure, pd.concat(tables, ignore_index=True)


def _figure(width_in: float, height_in: float) -> Figure:
    figure = Figure(figsize=(width_in, height_in), layout="constrained")
    FigureCanvasAgg(figure)
    return figure
