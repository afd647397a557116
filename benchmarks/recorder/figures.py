"""What the noise, the written leads and the variability look like."""

from __future__ import annotations

import functools

import jax
import numpy as np
from matplotlib.figure import Figure
from scipy import signal

from benchmarks.harness.writing import PALETTE, new_figure
from benchmarks.recorder import stages
from ecg_jax.data.ecg import LEADS
from ecg_jax.data.synthetic import norms
from ecg_jax.data.synthetic.norms.measure import variability as of_intervals
from ecg_jax.data.synthetic.physiology.condition_mix import only
from ecg_jax.data.synthetic.physiology.conditions import Rhythm
from ecg_jax.data.synthetic.physiology.leads import ELECTRODES
from ecg_jax.data.synthetic.physiology.sampling import Grid
from ecg_jax.data.synthetic.render.source import draw_block, render_draft
from ecg_jax.data.synthetic.render.tiers import Tier, recipe
from ecg_jax.data.synthetic.variability import (
    BeatToBeat,
    Breathing,
    TenSeconds,
    sample_breath,
    sample_changes,
    sample_rhythm,
    sample_spread,
)
from ecg_jax.data.synthetic.variability.beats import CHANGE_DRAWS

GRID = Grid(500, 10)
RECORDS = 128


def spectra() -> Figure:
    """Median density of the noise at a limb and at a chest electrode, and of leads I and V1, of both versions."""
    drawn = stages.draws(RECORDS, GRID)
    rows, words = drawn.noise_rows, drawn.words
    old = stages.noise_2(rows, words, stages.white_2(words, GRID), drawn.settings_2, GRID)
    slow = stages.slow_3(rows, words, drawn.breath_BxS, drawn.settings, GRID)
    new = slow + stages.fast_3(rows, words, stages.white_3(words, GRID), drawn.settings, GRID)
    drawing = new_figure(9.0, 3.8)
    left, right = drawing.subplots(1, 2, sharey=True)
    for label, noise, settings, style in (
        ("version 2", old, drawn.settings_2, "--"),
        ("version 3", new, drawn.settings, "-"),
    ):
        electrodes, leads = np.asarray(noise), np.asarray(stages.to_leads(noise, settings))
        for colour, name in enumerate(("LA", "V4")):
            hz, power = signal.welch(electrodes[:, ELECTRODES.index(name)], 500, nperseg=2000)
            density = np.sqrt(np.median(power, 0))
            left.loglog(hz[1:], 1e3 * density[1:], style, color=PALETTE[colour], label=f"{name}, {label}")
        for colour, (name, row) in enumerate((("I", 0), ("V4", 5))):
            hz, power = signal.welch(leads[:, row], 500, nperseg=2000)
            density = np.sqrt(np.median(power, 0))
            right.loglog(hz[1:], 1e3 * density[1:], style, color=PALETTE[colour], label=f"lead {name}, {label}")
    for axes in (left, right):
        axes.set(xlabel="Hz", xlim=(0.25, 250), ylim=(0.05, 100))
        axes.grid(alpha=0.3)
        axes.legend(fontsize=7)
    left.set_ylabel("noise, µV per root of Hz (median of records)")
    return drawing


def strips() -> Figure:
    """Clean beats of version 2 under version 3's noise, as six devices write them: leads II, V2 and V5."""
    drawn = stages.draws(32, GRID, seed=3)
    made_by = recipe(Tier.CONDITIONS, only(Rhythm.SINUS))
    clean = render_draft(draw_block(5, 0, made_by, GRID.seconds), made_by, None, GRID)[1]
    written = np.asarray(stages.whole_3(drawn, clean, GRID))
    time_s = np.arange(GRID.samples) / GRID.sample_rate_hz
    rms = written[:, :, LEADS.index("II")].std(1)
    chosen = np.argsort(rms)[np.linspace(0, 31, 6).astype(int)]
    drawing = new_figure(11.0, 12.0)
    for axes, row in zip(drawing.subplots(6, 1, sharex=True), chosen):
        for place, name in enumerate(("II", "V2", "V5")):
            axes.plot(time_s, written[row, :, LEADS.index(name)] - 2.2 * place, linewidth=0.6, color="k")
            axes.text(0.02, -2.2 * place + 0.5, name, fontsize=8)
        settings = drawn.settings
        axes.set(ylabel="mV", xlim=(0, 10), ylim=(-6.5, 2.2))
        axes.set_title(
            f"step {1e3 * settings.lsb_mv[row]:.2f} µV, from {settings.highpass_hz[row]:.2f} Hz, notch "
            f"{'on' if settings.powerline_gain[row] < 1 else 'off'}",
            fontsize=8,
        )
    axes.set_xlabel("s")
    return drawing


def variability(patients: int = 4000) -> Figure:
    """RMSSD by age beside what is published, ten tachograms, and how size and axis change from beat to beat."""
    rng = np.random.default_rng(0)
    age = rng.uniform(18, 90, patients).astype(np.float32)
    is_female = (rng.random(patients) < 0.5).astype(np.float32)
    rr_s = (60 / (68.6 * np.exp(0.174 * rng.standard_normal(patients)))).astype(np.float32)
    rhythm, changes = _sampled(rng, age, is_female, rr_s)
    onset_s = np.asarray(rhythm.onset_s)
    rmssd = np.array([of_intervals(one, np.ones(len(one), int), 10.0).get("rmssd_ms", np.nan) for one in onset_s])
    drawing = new_figure(11.0, 7.0)
    (by_age, tachograms), (sizes, turns) = drawing.subplots(2, 2)
    by_age.semilogy(age, rmssd, ".", markersize=1.5, color="0.7")
    for sex, colour, marker in (("men", PALETTE[0], "o"), ("women", PALETTE[3], "s")):
        of_sex = (is_female > 0.5) == (sex == "women")
        bins = np.arange(20, 90, 5)
        medians = [np.nanmedian(rmssd[of_sex & (age >= low) & (age < low + 5)]) for low in bins]
        by_age.plot(bins + 2.5, medians, color=colour, label=f"{sex}, generated (median)")
        known = [n for n in norms.published() if n.measure == "rmssd_ms" and n.sex == sex]
        middle = [(n.age_from + n.age_to) / 2 for n in known]
        by_age.plot(middle, [n.value for n in known], marker, color=colour, label=f"{sex}, published")
    by_age.set(xlabel="years", ylabel="RMSSD in 10 s, ms", ylim=(2, 300))
    by_age.legend(fontsize=7)
    for place, row in enumerate(np.argsort(age)[np.linspace(0, patients - 1, 8).astype(int)]):
        inside = (onset_s[row] > 0) & (onset_s[row] < 10)
        tachograms.plot(onset_s[row][inside][1:], np.diff(onset_s[row][inside]) + 0.25 * place, ".-", linewidth=0.8)
        tachograms.text(10.1, np.diff(onset_s[row][inside])[-1] + 0.25 * place, f"{age[row]:.0f} y", fontsize=7)
    tachograms.set(xlabel="s", ylabel="RR, s (shifted by 0.25 each)", xlim=(0, 11))
    for row in range(6):
        sizes.plot(
            np.asarray(changes.qrs_gain[row, :14]), color=PALETTE[row], linewidth=0.9, label="QRS" if row == 0 else None
        )
        sizes.plot(
            np.asarray(changes.t_gain[row, :14]),
            "--",
            color=PALETTE[row],
            linewidth=0.9,
            label="T" if row == 0 else None,
        )
        frontal = np.asarray(changes.qrs_turn[row, :14]) * float(changes.axis[row, 2])
        turns.plot(np.degrees(frontal), color=PALETTE[row], linewidth=0.9)
    sizes.set(xlabel="beat", ylabel="size relative to the patient's")
    sizes.legend(fontsize=7)
    turns.set(xlabel="beat", ylabel="frontal turn of QRS, degrees")
    return drawing


def _sampled(
    rng: np.random.Generator, age: np.ndarray, is_female: np.ndarray, rr_s: np.ndarray
) -> tuple[object, object]:
    """Rhythms and beat-to-beat changes of many patients."""
    records, beats, spread = len(age), 40, TenSeconds()
    rows = [rng.random((records, count)).astype(np.float32) for count in (2, 4, 9, CHANGE_DRAWS)]
    noise = rng.standard_normal((records, beats)).astype(np.float32)
    of_beats = rng.standard_normal((records, beats, 6)).astype(np.float32)

    def one(age, is_female, rr_s, spread_row, breath_row, row, change_row, noise, of_beats):
        rmssd_ms, sdnn_ms = sample_spread(spread_row, age, is_female, rr_s, spread)
        breath = sample_breath(breath_row, Breathing())
        rhythm = sample_rhythm(row, noise, rr_s, rmssd_ms, sdnn_ms, breath, spread.beat_share)
        sample = functools.partial(sample_changes, sizes=BeatToBeat())
        return rhythm, sample(change_row, of_beats, breath.at(rhythm.onset_s), rhythm.rr_s)

    return jax.jit(jax.vmap(one))(age, is_female, rr_s, *rows, noise, of_beats)
