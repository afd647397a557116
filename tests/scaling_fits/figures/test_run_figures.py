"""Figures are saved whole, carry their note and annotations, and do not change when drawn again."""

import numpy as np
import pandas as pd
import pytest

from scaling_fits.contrasts.contrasts import Slope
from scaling_fits.figures.run_figures import (
    contrast_forest,
    convergence_curves,
    loss_against_records,
    loss_against_size,
    save_figure,
)
from scaling_fits.tables.run_table import read_runs, seed_summary

NOTE = "stand-in, not real"


def table():
    rng = np.random.default_rng(0)
    rows = []
    for r in (0.0, 0.5, 1.0):
        for n in (3e4, 1e5, 3e5):
            for d in (4e3, 1e4, 2.5e4, 6.4e4):
                for seed in range(3):
                    floor = 0.25 - 0.1 * r
                    loss = (floor + 4 / n**0.4 + 30 / d**0.6) * np.exp(rng.normal(0, 0.02))
                    rows.append((len(rows), n, d, r, seed, r * d / 1487, loss))
    columns = ["run_id", "n_params", "records_seen", "real_fraction", "seed", "epochs_real", "loss"]
    return read_runs(
        pd.DataFrame(rows, columns=columns).assign(trunk_id=lambda f: f.n_params.astype(str) + f.seed.astype(str))
    )


def summary():
    return seed_summary(table(), ["real_fraction", "n_params", "records_seen"])


BASELINES = {"mean": 0.99, "linear map": 0.47, "principal components": {3e4: 0.05, 1e5: 0.04, 3e5: 0.03}}


def figures():
    curve = table().rows.assign(trunk_id=lambda f: f.trunk_id + f.real_fraction.astype(str))
    slope = {"primary": True, "pairs": 27, "trunks": 18, "clusters": 9, "sizes": 3, "effect_over_range": -0.2}
    slopes = [
        Slope("P1", "ln L(r=.5) - ln L(r=0)", estimate=-0.06, interval=(-0.09, -0.03), **slope),
        Slope("P2", "ln L(r=.5) - ln L(r=1)", estimate=0.02, reason="3 clusters", **slope),
    ]
    return {
        "size": loss_against_size(summary(), baselines=BASELINES, note=NOTE),
        "records": loss_against_records(summary(), baselines=BASELINES, note=NOTE),
        "curves": convergence_curves(curve, target=0.4, note=NOTE),
        "contrasts": contrast_forest(slopes, note=NOTE),
    }


def test_figures_are_labelled_and_saved_as_pdf_png_and_csv(tmp_path):
    for name, figure in figures().items():
        assert NOTE in figure.get_suptitle()
        paths = save_figure(figure, tmp_path / f"fig.{name}", summary())
        assert [path.name for path in paths] == [f"fig.{name}.{suffix}" for suffix in ("pdf", "png", "csv")]
        assert paths[0].read_bytes().startswith(b"%PDF") and paths[1].stat().st_size > 10_000
        assert b"/FontFile2" in paths[0].read_bytes() and b"/Type3" not in paths[0].read_bytes()
    assert not list(tmp_path.glob(".*"))


def test_every_point_with_real_data_names_its_epochs():
    figure = loss_against_records(summary())
    texts = [text.get_text() for axes in figure.axes for text in axes.texts]
    assert len(texts) == 2 * 3 * 4  # r = 0.5 and 1, three sizes, four budgets
    assert f"{6.4e4 / 1487:.3g}" in texts and NOTE not in figure.get_suptitle()


def test_baselines_are_named_in_the_legend():
    figure = loss_against_size(summary(), baselines=BASELINES)
    words = [text.get_text() for text in figure.legends[0].get_texts()]
    assert words == ["r = 0", "r = 0.5", "r = 1", *BASELINES]


def test_drawn_again_the_files_are_the_same(tmp_path):
    files = []
    for folder in ("a", "b"):
        files.append(
            [
                p.read_bytes()
                for p in save_figure(loss_against_size(summary(), note=NOTE), tmp_path / folder / "f", summary())
            ]
        )
    assert files[0] == files[1]


def test_a_missing_column_is_named():
    with pytest.raises(ValueError, match="epochs_real"):
        loss_against_records(summary().drop(columns="epochs_real"))
