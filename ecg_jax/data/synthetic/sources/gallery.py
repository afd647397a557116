"""Pictures of single beats in twelve leads, to look at: normal ones by age and sex, and each disease."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ecg_jax.data.ecg import LEADS
from ecg_jax.data.synthetic.physiology.composition import Group, flags_of
from ecg_jax.data.synthetic.physiology.conditions import Morphology
from ecg_jax.data.synthetic.randomness.draws import DRAWS_PER_ROW
from ecg_jax.data.synthetic.sources.hearts import beats
from ecg_jax.data.synthetic.sources.one_beat import one_beats, time_s

#: Patients on a page, and the ages of the normal ones.
COLUMNS = 4
YOUNG_YEARS, OLD_YEARS = 22.0, 75.0


@dataclasses.dataclass(frozen=True)
class Case:
    """One beat to draw."""

    title: str
    leads_mv: np.ndarray  # (samples, 12) at `one_beat.time_s`


def cases(groups: Sequence[Group], seed: int, age_years: np.ndarray, is_female: np.ndarray) -> list[Case]:
    """Beats of patients of a seed, each with a group of morphologies; ages and sexes NaN where the patients' own."""
    rows = jax.random.uniform(jax.random.key(seed), (len(groups), 3, DRAWS_PER_ROW))
    flags = np.stack([flags_of(*group) for group in groups])
    drawn, patients = beats(rows, jnp.asarray(flags), jnp.asarray(age_years), jnp.asarray(is_female))
    found = []
    leads_mv = np.asarray(one_beats(drawn, patients))
    for group, age, female, leads in zip(groups, patients.age_years, patients.is_female, leads_mv):
        sex = "woman" if female > 0.5 else "man"
        names = " + ".join(shape.name for shape in group) or Morphology.NORMAL.name
        found.append(Case(f"{names}, {sex} of {float(age):.0f}", leads))
    return found


def patients_by_age_and_sex(seed: int) -> list[Case]:
    """A young and an old man, a young and an old woman, each with a normal heart."""
    ages, sexes = np.array([YOUNG_YEARS, OLD_YEARS] * 2), np.array([0.0, 0.0, 1.0, 1.0])
    return cases([()] * 4, seed, ages, sexes)


def patients_with(group: Group, seed: int) -> list[Case]:
    """Four patients with a group of morphologies."""
    unknown = np.full(COLUMNS, np.nan)
    return cases([group] * COLUMNS, seed, unknown, unknown)


def draw_beats(drawn: Sequence[Case], path: Path) -> None:
    """Writes one column of twelve leads for each case: 0.2 s and 0.5 mV to the thick lines of the grid."""
    figure = Figure(figsize=(3.6 * len(drawn), 20.0))
    FigureCanvasAgg(figure)
    panels = figure.subplots(len(LEADS), len(drawn), sharex=True, squeeze=False)
    for column, case in zip(panels.T, drawn):
        column[0].set_title(case.title, fontsize=8)
        for panel, name, lead_mv in zip(column, LEADS, case.leads_mv.T):
            panel.plot(time_s(), lead_mv, color="#101010", linewidth=1.0)
            panel.set_yticks(np.arange(-3.0, 3.5, 0.5))
            panel.set_ylim(min(-0.75, lead_mv.min() - 0.1), max(0.75, lead_mv.max() + 0.1))
            panel.set_xticks(np.arange(-0.2, 0.8, 0.2))
            panel.set_ylabel(name, fontsize=8)
            panel.grid(color="#e9a3a3", linewidth=0.4)
            panel.tick_params(labelsize=5)
    figure.tight_layout(pad=0.4)
    figure.savefig(path, dpi=60)
