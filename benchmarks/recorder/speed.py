"""Records per second of both recorders and of their stages, interleaved on one core."""

from __future__ import annotations

from collections.abc import Callable

import jax
import numpy as np
import pandas as pd

from benchmarks.harness.timing import Contender, interleaved
from benchmarks.recorder import stages
from ecg_jax.data.synthetic.physiology.sampling import Grid
from ecg_jax.data.synthetic.render.source import BLOCK_RECORDS, draw_block, render_draft
from ecg_jax.data.synthetic.render.tiers import Tier, recipe

#: Rendered for users, and as training reads it (`source.RENDER_RATE_HZ` and its guard).
GRIDS = (Grid(100, 10), Grid(250, 10, 10), Grid(500, 10))
WHOLE = "version 2: whole T1d record of drawn patients"


def measure(rounds: int) -> pd.DataFrame:
    """One row for each stage and rate."""
    contenders = [contender for grid in GRIDS for contender in _of_grid(grid)]
    rows = [
        {
            "stage": timed.contender.name,
            "sample_rate_hz": timed.contender.sample_rate_hz,
            "records_per_s_best": timed.best_per_s,
            "records_per_s_median": timed.median_per_s,
            "us_per_record_best": 1e6 / timed.best_per_s,
            "first_call_s": timed.first_call_s,
        }
        for timed in interleaved(contenders, rounds, 0.05)
    ]
    return pd.DataFrame(rows)


def _of_grid(grid: Grid) -> list[Contender]:
    drawn = stages.draws(BLOCK_RECORDS, grid)
    shape = (BLOCK_RECORDS, 8, grid.samples)
    leads = np.random.default_rng(1).standard_normal(shape).astype(np.float32)
    white_2, white_3 = stages.white_2(drawn.words, grid), stages.white_3(drawn.words, grid)
    rows, words, settings, old = drawn.noise_rows, drawn.words, drawn.settings, drawn.settings_2
    made_by = recipe(Tier.ACQUISITION)
    draft = draw_block(0, 0, made_by, grid.seconds)
    runs: dict[str, Callable[[], object]] = {
        "version 2: white noise": lambda: stages.white_2(words, grid),
        "version 3: white noise": lambda: stages.white_3(words, grid),
        "version 2: noise": lambda: stages.noise_2(rows, words, white_2, old, grid),
        "version 3: slow noise": lambda: stages.slow_leads_3(rows, words, drawn.breath_BxS, settings, grid),
        "version 3: fast noise": lambda: stages.fast_3(rows, words, white_3, settings, grid),
        "version 2: written": lambda: stages.written_2(leads, old, grid),
        "version 3: written": lambda: stages.written_3(leads, settings, grid),
        "version 2: recorder": lambda: stages.whole_2(drawn, leads, grid),
        "version 3: recorder": lambda: stages.whole_3(drawn, leads, grid),
        WHOLE: lambda: render_draft(draft, made_by, None, grid),
    }

    def waited(run: Callable[[], object]) -> Callable[[], object]:
        return lambda: jax.block_until_ready(run())

    return [Contender(name, grid.sample_rate_hz, BLOCK_RECORDS, waited(run)) for name, run in runs.items()]
