"""Version 3's recorder: noise spectra by electrode, devices, and twelve leads rounded one by one."""

import dataclasses
import functools

import jax
import numpy as np
import pytest
from scipy import signal

from ecg_jax.data.synthetic.physiology.leads import ELECTRODES, ELECTRODES_TO_LEADS, twelve_leads
from ecg_jax.data.synthetic.physiology.sampling import Grid
from ecg_jax.data.synthetic.recorder import acquisition
from ecg_jax.data.synthetic.recorder import noise as version_2
from ecg_jax.data.synthetic.recorder.acquisition import lowpass_sigma_s, noise_to_leads
from ecg_jax.data.synthetic.recorder.devices import DEVICES, Device, Recorder, recorded, sample_recorder
from ecg_jax.data.synthetic.recorder.electrode_noise import (
    GROUPS,
    ElectrodeNoise,
    fast_noise,
    sample_noise,
    slow_noise,
    white_noise,
)
from ecg_jax.data.synthetic.recorder.slow import Spectrum, root, slow_points, upsampled

RECORDS, SECONDS = 96, 10
#: Without what a test does not look at; every electrode at its group's level, every record at the median.
QUIET = dataclasses.replace(
    version_2.Noise(), burst=0.0, motion=0.0, powerline_mv=0.0, respiration_mv=0.0, amplifier_mv=0.0, chest_coupling=0.0
)
EVEN = ElectrodeNoise(
    wander_log_sd=0.0, muscle_log_sd=0.0, muscle_electrode_log_sd=0.0, muscle_corner_hz=(30.0, 30.0), rest=QUIET
)


def words(records: int = RECORDS) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 2**32, (records, 2), dtype=np.uint32)


def settings_of(records: int, **changed) -> acquisition.Settings:
    settings = dataclasses.replace(acquisition.faultless(), **{k: np.float32(v) for k, v in changed.items()})
    return jax.tree.map(lambda leaf: np.broadcast_to(leaf, (records, *np.shape(leaf))), settings)


@functools.cache
def drawn(levels: ElectrodeNoise, rate_hz: int = 500, part: str = "all", lowpass_hz: float = 0.0, guard: int = 0):
    """Noise of many records, `(records, 9, samples)` in mV."""
    grid = Grid(rate_hz, SECONDS, guard)
    rows = np.random.default_rng(1).random((RECORDS, 128)).astype(np.float32)
    sigma_s = lowpass_sigma_s(lowpass_hz) if lowpass_hz else 0.0
    breath = np.sin(2 * np.pi * 0.25 * np.arange(grid.samples) / rate_hz).astype(np.float32)

    def one(row, words, white, settings):
        match part:
            case "slow":
                return slow_noise(row, words, breath, settings, levels, grid)
            case "fast":
                return fast_noise(row, words, white, settings, levels, grid)
        return sample_noise(row, words, white, breath, settings, levels, grid)

    batch = jax.jit(lambda rows, words, s: jax.vmap(one)(rows, words, white_noise(words, grid), s))
    return np.asarray(batch(rows, words(), settings_of(RECORDS, lowpass_sigma_s=sigma_s)))


def density(noise_mv: np.ndarray, rate_hz: int = 500) -> tuple[np.ndarray, np.ndarray]:
    """Frequencies and the mean density of many channels `(..., samples)`, mV²/Hz."""
    hz, power = signal.welch(noise_mv, rate_hz, nperseg=rate_hz)
    return hz, power.reshape(-1, len(hz)).mean(0)


def at(hz: np.ndarray, power: np.ndarray, low: float, high: float) -> float:
    return float(power[(hz >= low) & (hz <= high)].mean())


def test_muscle_noise_falls_with_frequency_where_version_2s_rises():
    hz, power = density(drawn(EVEN, part="fast"))
    bands = [at(hz, power, f, f + 10) for f in (20, 40, 60, 80, 120, 160, 200)]
    assert np.all(np.diff(bands) < 0)
    assert bands[0] / bands[3] == pytest.approx((1 + (85 / 30) ** 2) / (1 + (25 / 30) ** 2), rel=0.15)
    old = version_2.Noise(wander_mv=0.0, respiration_mv=0.0, powerline_mv=0.0, amplifier_mv=0.0, burst=0.0, motion=0.0)
    rows = np.full((RECORDS, 128), 0.5, np.float32)
    one = functools.partial(version_2.sample_noise, noise=old, sample_rate_hz=500, seconds=SECONDS)
    batch = jax.jit(
        lambda rows, words, s: jax.vmap(lambda r, w, white, s: one(r, w, white, 0.0, 0.25, s))(
            rows, words, version_2.white_noise(words, 500, SECONDS), s
        )
    )
    hz, power = density(np.asarray(batch(rows, words(), settings_of(RECORDS))))
    assert at(hz, power, 80, 90) > 2 * at(hz, power, 20, 30)


def test_limbs_are_noisier_than_the_chest_and_leads_have_the_noise_of_their_electrodes():
    noise = drawn(EVEN, part="fast")
    rms = np.sqrt((noise**2).mean((0, 2)))
    limbs, chest = rms[GROUPS == 0].mean(), rms[GROUPS == 1].mean()
    assert chest == pytest.approx(EVEN.muscle_mv, rel=0.08)
    assert limbs / chest == pytest.approx(EVEN.limb_gain, rel=0.05)
    leads = np.einsum("le,bes->bls", ELECTRODES_TO_LEADS, noise)
    lead_rms = np.sqrt((leads**2).mean((0, 2)))
    assert lead_rms[0] == pytest.approx(np.sqrt(2) * limbs, rel=0.05)
    assert lead_rms[4] == pytest.approx(np.sqrt(chest**2 + limbs**2 / 3), rel=0.05)
    # Wilson's central terminal is common to the chest leads, the right arm to leads I and II.
    related = np.corrcoef(leads.transpose(1, 0, 2).reshape(8, -1))
    assert related[2, 5] == pytest.approx((limbs**2 / 3) / (chest**2 + limbs**2 / 3), abs=0.04)
    assert related[0, 1] == pytest.approx(0.5, abs=0.04)
    assert np.abs(np.corrcoef(noise.transpose(1, 0, 2).reshape(9, -1)) - np.eye(9)).max() < 0.03


def test_muscle_noise_has_the_same_density_at_every_rate_and_the_low_pass_takes_half_at_its_corner():
    fine, coarse = density(drawn(EVEN, part="fast")), density(drawn(EVEN, 250, "fast"), 250)
    for low in (30, 50, 80):
        assert at(*fine, low, low + 10) == pytest.approx(at(*coarse, low, low + 10), rel=0.1)
    passed = density(drawn(EVEN, part="fast", lowpass_hz=100.0))
    assert at(*passed, 98, 102) / at(*fine, 98, 102) == pytest.approx(0.5, abs=0.06)
    assert at(*passed, 20, 30) / at(*fine, 20, 30) == pytest.approx(1, abs=0.1)


def test_muscle_noise_comes_and_goes_within_a_record():
    steady = drawn(dataclasses.replace(EVEN, muscle_envelope_log_sd=0.0), part="fast")
    varied = drawn(EVEN, part="fast")

    def spread(noise):
        seconds = np.log(noise.reshape(RECORDS, 9, SECONDS, -1).std(-1))
        return float(seconds.std(-1).mean())

    assert spread(varied) > 3 * spread(steady)
    assert spread(varied) == pytest.approx(EVEN.muscle_envelope_log_sd, rel=0.35)  # less what a second averages


def test_wander_has_its_level_falls_as_one_over_f_squared_and_has_no_lines():
    noise = drawn(EVEN, part="slow")
    assert np.sqrt((noise**2).mean()) == pytest.approx(EVEN.wander_mv, rel=0.08)
    hz, power = signal.periodogram(noise, 500, window="hann")
    power = power.reshape(-1, len(hz)).mean(0)
    inside = (hz >= 0.3) & (hz <= 4.0)
    slope = np.polyfit(np.log(hz[inside]), np.log(power[inside]), 1)[0]
    assert slope == pytest.approx(-EVEN.wander_exponent, abs=0.2)
    smooth = signal.medfilt(power[inside], 7)
    assert (power[inside] / smooth)[3:-3].max() < 1.5
    assert at(hz, power, 20, 30) < 1e-4 * at(hz, power, 1, 2)  # what straight lines between 25 points a second add


def test_slow_noise_is_the_same_function_of_time_at_every_rate():
    assert slow_points(Grid(500, SECONDS)) == slow_points(Grid(250, SECONDS))
    np.testing.assert_allclose(drawn(EVEN, 500, "slow")[:, :, ::2], drawn(EVEN, 250, "slow"), atol=2e-5)


@pytest.mark.parametrize(("rate_hz", "guard"), [(100, 0), (250, 10), (500, 7), (1000, 0)])
def test_reading_between_coarse_points_is_a_straight_line_of_time(rate_hz, guard):
    grid = Grid(rate_hz, 2, guard)
    each = rate_hz // 25
    before = -(-guard // each)
    coarse_s = (np.arange(slow_points(grid)) - before) / 25
    assert coarse_s[0] <= -guard / rate_hz and coarse_s[-1] >= 2 + (guard - 1) / rate_hz
    np.testing.assert_allclose(upsampled(3 * coarse_s - 1, grid), 3 * np.asarray(grid.time_s()) - 1, atol=2e-6)


def test_the_root_gives_the_covariance_of_its_spectrum():
    spectrum = Spectrum(0.5, 2.0, 10.0)
    table = np.asarray(root(spectrum, 100), np.float64)
    covariance = table @ table.T
    assert np.diag(covariance) == pytest.approx(1, abs=1e-4)
    lag = np.arange(100) / 25
    expected = np.exp(-2 * np.pi * 0.5 * lag)  # of a first-order process, without the cut
    assert np.abs(covariance[0] - expected)[2:].max() < 0.04
    with pytest.raises(ValueError, match="multiple of the slow grid"):
        slow_points(Grid(360, 10))


def test_the_whole_is_the_sum_of_its_parts_finite_and_the_same_again():
    whole, parts = drawn(ElectrodeNoise()), drawn(ElectrodeNoise(), part="slow") + drawn(ElectrodeNoise(), part="fast")
    assert whole.shape == (RECORDS, len(ELECTRODES), 5000) and np.isfinite(whole).all()
    np.testing.assert_allclose(whole, parts, atol=1e-5)
    assert np.median(np.sqrt((drawn(ElectrodeNoise(), part="fast") ** 2).mean(2))) < 0.015


def test_slow_noise_in_leads_is_that_of_the_electrodes_projected():
    grid, levels = Grid(100, 5), ElectrodeNoise()
    row, settings = np.full(128, 0.4, np.float32), jax.tree.map(lambda leaf: leaf[0], settings_of(1))
    draw = functools.partial(slow_noise, row, words(1)[0], np.zeros(500, np.float32), settings, levels, grid)
    np.testing.assert_allclose(draw(ELECTRODES_TO_LEADS), ELECTRODES_TO_LEADS @ np.asarray(draw()), atol=1e-6)


@functools.cache
def a_recording(records: int = 64):
    """Clean twelve leads, and what devices write of them."""
    rows = np.random.default_rng(2).random((records, 128)).astype(np.float32)
    settings = jax.vmap(functools.partial(sample_recorder, recorder=Recorder()))(rows)
    leads = (0.3 * np.random.default_rng(3).standard_normal((records, 8, 1000))).astype(np.float32)
    written = jax.vmap(lambda leads, s: recorded(leads, s, 250))(leads, settings)
    return settings, leads, np.asarray(written, np.float64)


def test_every_lead_is_rounded_by_itself():
    settings, _, written = a_recording()
    step = np.asarray(settings.lsb_mv, np.float64)[:, None, None]
    steps = written / step
    assert np.abs(steps - np.round(steps)).max() < 2e-3
    i, ii, iii, avr, avl, avf = np.round(steps).transpose(2, 0, 1)[:6]
    for residual in (iii - (ii - i), avr + (i + ii) / 2, avl - (i - ii / 2), avf - (ii - i / 2)):
        assert np.abs(residual).max() <= 1.0
        assert 0.1 < (residual != 0).mean() < 0.9
    rounding = np.abs(iii - (ii - i)).mean()
    assert 0.1 < rounding < 0.5
    derived = np.asarray(twelve_leads(np.round(steps)[:, :, [0, 1, 6, 7, 8, 9, 10, 11]]))
    assert np.abs(derived[:, :, 2] - (ii - i)).max() == 0  # version 2: derived after rounding, exact


def test_devices_come_in_their_shares_with_their_steps_filters_and_limits():
    recorder = Recorder()
    rows = np.random.default_rng(4).random((4000, 128)).astype(np.float32)
    settings = jax.tree.map(np.asarray, jax.vmap(functools.partial(sample_recorder, recorder=recorder))(rows))
    for device, share in zip(recorder.devices, recorder.shares):
        own = np.isclose(settings.lsb_mv, device.lsb_mv) & np.isclose(settings.highpass_hz, device.highpass_hz)
        assert own.mean() == pytest.approx(share, abs=0.025), device.name
        assert np.allclose(settings.clip_mv[own], device.clip_mv)
        assert (settings.powerline_gain[own] < 1).mean() == pytest.approx(device.notch, abs=0.1)
        for hz, part in zip(device.lowpass_hz, device.lowpass_shares):
            chosen = np.isclose(settings.lowpass_sigma_s[own], lowpass_sigma_s(hz), rtol=1e-4)
            assert chosen.mean() == pytest.approx(part, abs=0.06)
    swapped = (settings.swap > 0).mean()
    faults = recorder.faults
    rate = faults.arms_swapped + faults.left_swapped + faults.right_arm_leg_swapped + faults.chest_swapped
    assert swapped == pytest.approx(rate, abs=0.01)


def test_a_loose_electrode_is_noisier_in_its_leads():
    settings = jax.tree.map(lambda leaf: leaf[0], settings_of(1))
    loose = dataclasses.replace(settings, noise_gain=np.where(np.arange(9) == 3, 5.0, 1.0).astype(np.float32))
    noise = drawn(EVEN, part="fast")[:8]
    clean, bad = (np.einsum("le,bes->bls", np.asarray(noise_to_leads(s)), noise).std((0, 2)) for s in (settings, loose))
    assert bad[2] > 1.5 * clean[2] and np.allclose(bad[3:], clean[3:])


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (lambda: ElectrodeNoise(muscle_mv=-1.0), "muscle_mv is -1.0"),
        (lambda: ElectrodeNoise(limb_gain=0.0), "limb_gain is 0.0"),
        (lambda: ElectrodeNoise(muscle_corner_hz=(60.0, 20.0)), "muscle_corner_hz is 60.0 to 20.0"),
        (lambda: ElectrodeNoise(wander_hz=(0.05, 12.0)), "a slow spectrum from 0.05 to 12.0 Hz"),
        (lambda: ElectrodeNoise(wander_exponent=5.0), r"falls as 1 / f\^5.0"),
        (lambda: Device("x", 0.0), "x: lsb_mv is 0.0"),
        (lambda: Device("x", 0.001, lowpass_hz=(150.0,)), "one share >= 0 for each of the 1 values"),
        (lambda: Device("x", 0.001, lowpass_hz=(20.0,), lowpass_shares=(1.0,)), "a value of lowpass_hz is 20.0"),
        (lambda: Recorder(DEVICES, (1.0,)), "5 devices with the shares"),
        (lambda: Recorder(DEVICES[:1], (0.9,)), "sum to 0.9"),
    ],
)
def test_what_cannot_be_is_refused_by_name(make, complaint):
    with pytest.raises(ValueError, match=complaint):
        make()
