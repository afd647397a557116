"""The generator as a whole: its population, its rates and ranks, and that nothing non-finite leaves it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import signal
from support import rendered_records

from ecg_jax.data.preprocess import apply_chain
from ecg_jax.data.synthetic import (
    ADULT,
    PREVALENCE,
    UNIFORM,
    ConditionMix,
    Morphology,
    Population,
    Recipe,
    Rhythm,
    Tier,
    only,
    recipe,
    render,
)
from ecg_jax.data.synthetic.physiology.conditions import CAN_JOIN, sample_conditions
from ecg_jax.data.synthetic.physiology.patient import sample_patient
from ecg_jax.data.synthetic.physiology.rhythm import rr_process
from ecg_jax.data.synthetic.randomness.draws import Stage, draw_rows
from ecg_jax.data.synthetic.recorder.acquisition import Acquisition
from ecg_jax.data.synthetic.recorder.noise import Noise
from ecg_jax.data.synthetic.render.source import index_keys

SEED = 5
INDEPENDENT = [0, 1, *range(6, 12)]
#: Percentiles 50, 2 and 98 of healthy adults: Mason et al., J Electrocardiol 40:228, 2007.
MASON = {
    "heart_rate_bpm": (68.6, 48, 98),
    "pr_ms": (154.8, 113, 212),
    "qrs_ms": (89, 69, 109),
    "qtcf_ms": (402, 359, 445),
}
MASON_AXIS_DEG = (37, -40, 91)
PERCENTILES = (50, 2, 98)


def rows_of(stage: Stage, patients: int) -> jax.Array:
    index = np.arange(patients, dtype=np.uint32)
    keys = index_keys(np.uint32(SEED), np.zeros_like(index), index)
    return draw_rows(*keys, (stage,))[0][stage]


# Population ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MASON)
def test_latents_have_the_published_percentiles(name: str) -> None:
    found = np.percentile(rendered_records.population().patient[name], PERCENTILES)
    np.testing.assert_allclose(found, MASON[name], rtol=0.03)


def test_intervals_between_fiducials_have_the_published_percentiles() -> None:
    fiducials_s = rendered_records.population().fiducials_s
    p_s, qrs_s = fiducials_s[:, :, 0], fiducials_s[:, :, 1]
    for name, interval_s in (("pr_ms", qrs_s[..., 0] - p_s[..., 0]), ("qrs_ms", qrs_s[..., 2] - qrs_s[..., 0])):
        found = np.percentile(1000 * np.nanmedian(interval_s, axis=1), PERCENTILES)
        np.testing.assert_allclose(found, MASON[name], rtol=0.03, err_msg=name)


def test_the_axis_has_the_published_percentiles_in_latents_and_signals() -> None:
    latent_deg = np.percentile(rendered_records.population().patient["qrs_axis_deg"], PERCENTILES)
    read_deg = np.percentile([read.axis_deg for read in rendered_records.population_readings() if read], PERCENTILES)
    np.testing.assert_allclose(latent_deg, MASON_AXIS_DEG, atol=4)
    np.testing.assert_allclose(read_deg, MASON_AXIS_DEG, atol=4)


def test_the_checker_reads_the_same_intervals_on_the_signals() -> None:
    """PR and QRS of the whole population, from the samples alone; the reading of narrow and wide QRS is less even."""
    readings = [read for read in rendered_records.population_readings() if read]
    assert len(readings) > 0.99 * len(rendered_records.population_readings())
    pr_ms = np.nanpercentile([read.pr_ms for read in readings], PERCENTILES)
    qrs_ms = np.percentile([read.qrs_duration_ms for read in readings], PERCENTILES)
    np.testing.assert_allclose(pr_ms, MASON["pr_ms"], rtol=0.03)
    np.testing.assert_allclose(qrs_ms, MASON["qrs_ms"], rtol=0.07)


def test_variability_over_five_minutes_has_its_targets() -> None:
    """SDNN within 3 %; LF/HF within 10 %, by the periodogram of the beats."""
    patients, beats = 256, 512  # at 98 per minute 512 beats last 5.2 minutes

    @jax.jit
    def sample(patient_rows: jax.Array, rhythm_rows: jax.Array) -> tuple:
        people = jax.vmap(lambda row: sample_patient(row, ADULT))(patient_rows)
        return people, jax.vmap(lambda row, one: rr_process(row, one, beats))(rhythm_rows, people)

    people, node = jax.tree.map(np.asarray, sample(rows_of(Stage.PATIENT, patients), rows_of(Stage.RHYTHM, patients)))
    assert (node.rr_s.sum(1) > 300).mean() > 0.97
    sdnn_ms = 1000 * node.rr_s.std(1)
    assert abs(np.median(sdnn_ms / people.sdnn_ms) - 1) < 0.03
    ratio = []
    for rr_s, wanted in zip(node.rr_s.astype(np.float64), people.lf_hf):
        # Of the series of beats: resampled in time, it would lose some of what varies with the breath.
        power = np.abs(np.fft.rfft((rr_s - rr_s.mean()) * np.hanning(beats))) ** 2
        hz = np.arange(len(power)) / rr_s.sum()
        ratio.append(power[(hz > 0.04) & (hz < 0.15)].sum() / power[hz >= 0.15].sum() / wanted)
    assert abs(np.median(ratio) - 1) < 0.1, np.median(ratio)


@pytest.mark.parametrize("mix", [PREVALENCE, UNIFORM], ids=["prevalence", "uniform"])
def test_conditions_are_drawn_as_often_as_configured(mix: ConditionMix) -> None:
    rows = rows_of(Stage.CONDITIONS, 20_000)
    drawn = jax.tree.map(
        np.asarray, jax.jit(jax.vmap(lambda row: sample_conditions(row, jnp.asarray(mix.edges()))))(rows)
    )
    count = np.zeros((len(Rhythm), len(Morphology)))
    np.add.at(count, (drawn.rhythm, drawn.morphology), 1)
    assert count[~CAN_JOIN].sum() == 0
    for axis in (0, 1):
        probability = mix.probabilities().sum(axis)
        spread = np.sqrt(len(rows) * probability * (1 - probability))
        assert (np.abs(count.sum(axis) - len(rows) * probability) <= 4 * spread + 1).all()
    assert np.isclose(mix.probabilities().sum(), 1) and (mix.probabilities()[~CAN_JOIN] == 0).all()


# Rates and ranks -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tier", [Tier.ANATOMY, Tier.CONDITIONS], ids=lambda tier: tier.value)
def test_a_rendering_at_500_hz_passes_through_that_at_100_hz(tier: Tier) -> None:
    """Clean tiers are functions of time: at common instants the samples are equal, not only similar.

    Up to the resolution of time in float32: 1e-6 s at 10 s, on slopes of 150 mV/s.
    """
    made_by = recipe(tier) if tier is Tier.ANATOMY else recipe(tier, only(*Morphology))
    slow, fast = (render(rendered_records.SEED, np.arange(64), made_by, rate_hz) for rate_hz in (100, 500))
    difference_mv = np.abs(fast[:, ::5] - slow)
    assert difference_mv.max() < 5e-4 and np.percentile(difference_mv, 99) < 5e-5, difference_mv.max()
    through_slow, through_fast = apply_chain(slow, 100, 100), apply_chain(fast, 500, 100)
    inside = np.abs(through_slow.astype(int) - through_fast)[:, 100:-100] / 1000
    assert np.median(inside.max((1, 2))) < 0.03


@pytest.mark.parametrize(("tier", "rank"), [(Tier.VECTORS, 3), (Tier.ANATOMY, 8)], ids=["T1a", "T1b"])
def test_rank(tier: Tier, rank: int) -> None:
    leads_mv = render(rendered_records.SEED, np.arange(32), recipe(tier), rendered_records.RATE_HZ)[:, :, INDEPENDENT]
    singular = np.linalg.svd(leads_mv.astype(np.float64), compute_uv=False)
    share = singular / singular[:, :1]
    assert np.median(share[:, rank - 1]) > 1e-3 and share[:, rank - 1].min() > 1e-4
    if rank < len(INDEPENDENT):
        assert share[:, rank].max() < 1e-5


def test_noise_of_different_records_is_uncorrelated() -> None:
    records = rendered_records.recorded()
    fast = signal.butter(2, 20.0, "highpass", fs=records.sample_rate_hz, output="sos")
    noise_mv = signal.sosfiltfilt(fast, records.ecg_mv[:48, :, 7] - records.clean_mv[:48, :, 7], axis=1)
    correlation = np.corrcoef(noise_mv) - np.eye(48)
    # A bandwidth of some 100 to 200 Hz leaves a fifth of the samples independent.
    assert np.abs(correlation).mean() < 5 / np.sqrt(noise_mv.shape[1])


# Nothing non-finite --------------------------------------------------------------------------------------------------


def _extreme(draw: np.random.Generator) -> Recipe:
    """A recipe from the whole parameter space, each field at an end of its range or anywhere within."""

    def within(low: float, high: float) -> float:
        return float(draw.choice([low, high, draw.uniform(low, high)]))

    heart_rate_bpm, pr_ms, qtcf_ms = within(40.0, 110.0), within(90.0, 300.0), within(330.0, 520.0)
    while pr_ms + qtcf_ms * (60.0 / heart_rate_bpm) ** (1 / 3) > 0.95 * 60_000.0 / heart_rate_bpm:
        heart_rate_bpm *= 0.98  # the population refuses intervals longer than its beat
    population = Population(
        "extreme",
        age_years=(1.0, within(2.0, 110.0)),
        female_fraction=within(0.0, 1.0),
        heart_rate_median_bpm=heart_rate_bpm,
        heart_rate_log_sd=within(0.0, 0.3),
        pr_median_ms=pr_ms,
        qrs_mean_ms=within(60.0, 160.0),
        qrs_sd_ms=within(3.0, 20.0),
        qtcf_mean_ms=qtcf_ms,
        p_duration_sd_ms=within(0.0, 25.0),
        qrs_axis_sd_left_deg=within(0.0, 90.0),
        sdnn_median_ms=within(0.0, 200.0),
        lf_hf_log_sd=within(0.0, 2.0),
        heart_tilt_sd_deg=within(0.0, 45.0),
        body_gain_log_sd=within(0.0, 0.5),
        kernel_gain_log_sd=within(0.0, 0.5),
        kernel_direction_sd=within(0.0, 0.5),
        kernel_width_log_sd=within(0.0, 0.3),
        lead_field_sd=within(0.0, 0.5),
        nondipolar_fraction=within(0.0, 0.5),
    )
    mix = draw.choice(3)
    morphologies = tuple(float(w) for w in draw.exponential(size=len(Morphology)))
    own = ConditionMix(tuple(float(w) for w in draw.exponential(size=len(Rhythm))), morphologies)
    noise = Noise(
        wander_mv=within(0.0, 1.0),
        wander_log_sd=within(0.0, 2.0),
        emg_mv=within(0.0, 0.5),
        motion=within(0.0, 1.0),
        motion_mv=within(0.0, 3.0),
        motion_per_s=within(0.0, 5.0),
        powerline_mv=within(0.0, 0.5),
        burst=within(0.0, 1.0),
        amplifier_mv=within(0.0, 0.1),
    )
    acquisition = Acquisition(
        loose=within(0.0, 1.0),
        chest_swapped=within(0.0, 0.5),
        notch=within(0.0, 1.0),
        lsb_mv=(within(1e-5, 0.1),),
        clip_mv=(within(1.0, 30.0),),
        lowpass_hz=(35.0, 1000.0),
        lowpass_shares=(0.5, 0.5),
        highpass_hz=(0.0, 1.0),
        highpass_shares=(0.5, 0.5),
    )
    return Recipe(
        population=population,
        anatomy=within(0.0, 5.0),
        residual=within(0.0, 5.0),
        breathing=within(0.0, 5.0),
        conditions=(UNIFORM, PREVALENCE, own)[mix],
        noise=noise,
        acquisition=acquisition,
    )


def assert_finite(made_by: Recipe, records: int) -> None:
    for start in range(0, records, 512):
        index = np.arange(start, min(start + 512, records))
        ecg_mv = render(SEED, index, made_by, 250)
        wrong = index[~np.isfinite(ecg_mv).all((1, 2))]
        assert not len(wrong), f"records {wrong} of {made_by}"
        assert np.abs(ecg_mv).max() <= 2 * max(made_by.acquisition.clip_mv) + 1, made_by


def test_nothing_non_finite_leaves_an_extreme_recipe() -> None:
    assert_finite(_extreme(np.random.default_rng(0)), 320)


@pytest.mark.long
@pytest.mark.parametrize("group", range(10))
def test_nothing_non_finite_leaves_in_a_hundred_thousand_records(group: int) -> None:
    assert_finite(_extreme(np.random.default_rng(group)), 10_000)
