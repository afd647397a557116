"""Counter-hash noise, and the noise of the electrodes against its own constants."""

import dataclasses
import functools

import jax
import numpy as np
import pytest
from scipy import signal, stats

from ecg_jax.data.synthetic.physiology.leads import ELECTRODES, ELECTRODES_TO_LEADS
from ecg_jax.data.synthetic.randomness import hashing
from ecg_jax.data.synthetic.recorder import acquisition, noise
from ecg_jax.data.synthetic.recorder.acquisition import Acquisition
from ecg_jax.data.synthetic.recorder.noise import Noise

#: Levels spread so widely that the lowest draw is silence: every test turns on what it looks at by the draws alone,
#: and all share one compiled function per rate.
LEVEL_MV, LOG_SD = 0.02, 5.0
KINDS = ("wander", "respiration", "powerline", "emg", "amplifier")
WIDE = Noise(
    **{f"{kind}_mv": LEVEL_MV for kind in KINDS},
    **{f"{kind}_log_sd": LOG_SD for kind in KINDS},
    emg_electrode_log_sd=0.0,
    burst=0.3,
    burst_gain=(8.0, 8.0),
    burst_s=(2.0, 2.0),
    motion=0.25,
    motion_per_s=0.3,
    motion_mv=0.3,
    motion_log_sd=0.0,
    harmonics=(1.0, 0.5, 0.25),
)
# Where the noise's row of draws holds what.
BURST, MOTION = 8, 12


def words(records: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 2**32, (records, 2), dtype=np.uint32)


@functools.lru_cache(maxsize=16)
def compiled(levels: Noise, rate_hz: int, seconds: int, guard: int):
    def batch(rows, words, phases, respiration_hz, settings):
        white = noise.white_noise(words, rate_hz, seconds, guard)
        one = functools.partial(
            noise.sample_noise, noise=levels, sample_rate_hz=rate_hz, seconds=seconds, guard_samples=guard
        )
        return jax.vmap(one)(rows, words, white, phases, respiration_hz, settings)

    return jax.jit(batch)


def settings_of(records: int, **changed: np.float32) -> acquisition.Settings:
    settings = dataclasses.replace(acquisition.faultless(), **changed)
    return jax.tree.map(lambda leaf: np.broadcast_to(leaf, (records, *np.shape(leaf))), settings)


def draw(*kinds, records=128, rate_hz=500, seconds=10, guard=0, varied=False, settings=None, levels=WIDE):
    """Noise of the given kinds only, each at its median unless `varied`: `(records, 9, samples)` in mV."""
    rows = np.random.default_rng(0).random((records, 128), dtype=np.float32)
    if kinds:
        for place, kind in enumerate(KINDS):
            rows[:, place] = np.where(kind in kinds, rows[:, place] if varied else 0.5, 0.0)
        for kind, place in (("burst", BURST), ("motion", MOTION)):
            rows[:, place] = np.where(kind in kinds, rows[:, place], 0.999)
    batch = compiled(levels, rate_hz, seconds, guard)
    phases, respiration_hz = np.full(records, 1.1, np.float32), np.full(records, 0.27, np.float32)
    settings = settings_of(records) if settings is None else settings
    return np.asarray(batch(rows, words(records), phases, respiration_hz, settings))


def test_hash_noise_is_standard_normal_in_its_moments():
    x = np.asarray(hashing.standard_normal(words(64), 9, 1000), np.float64).ravel()
    n = x.size
    assert abs(x.mean()) < 5 / np.sqrt(n)
    assert abs(x.var() - 1) < 5 * np.sqrt(2 / n)
    assert abs(stats.skew(x)) < 5 * np.sqrt(6 / n)
    assert stats.kurtosis(x) == pytest.approx(-0.3, abs=0.02)  # Irwin-Hall of order 4
    assert np.abs(x).max() < 3.46
    edges = np.linspace(-3, 3, 25)
    assert np.abs(np.array([(x < e).mean() for e in edges]) - stats.norm.cdf(edges)).max() < 0.012


def test_hash_noise_has_no_correlation_in_time_across_channels_or_records():
    x = np.asarray(hashing.standard_normal(words(48), 9, 2000), np.float64)
    records, samples, channels = x.shape
    for lag in (1, 2, 3, 7, 9, 64, 500):
        rho = (x[:, lag:] * x[:, :-lag]).mean(1)
        assert np.abs(rho).max() < 5 / np.sqrt(samples - lag)
    across = np.einsum("bsc,bsd->bcd", x, x) / samples
    assert np.abs(across - np.diag(np.ones(channels)) * across).max() < 5 / np.sqrt(samples)
    flat = x.reshape(records, -1)
    rho = np.corrcoef(flat) - np.eye(records)
    assert np.abs(rho).max() < 5 / np.sqrt(flat.shape[1])


def test_neighbouring_words_and_forks_give_unrelated_noise():
    near = np.array([[7, 9], [8, 9], [7, 10], [7, 8], [7 + 0x9E3779B9, 9], [0, 0], [2**32 - 1, 2**32 - 1]], np.uint32)
    key = np.concatenate([near, np.asarray(hashing.forked(near, 0)), np.asarray(hashing.forked(near, 1))])
    assert len(np.unique(key, axis=0)) == len(key)
    x = np.asarray(hashing.normals(key, 20_000))
    assert np.abs(x.mean(1)).max() < 5 / np.sqrt(x.shape[1])
    for lag in (0, 1):  # a key whose counter starts one step further must not give the same noise one step earlier
        rho = x[:, lag:] @ x[:, : x.shape[1] - lag].T / x.shape[1]
        np.fill_diagonal(rho, 0)
        assert np.abs(rho).max() < 5 / np.sqrt(x.shape[1])


def test_every_hashed_bit_is_fair_and_depends_on_every_bit_of_the_key():
    key = words(16)
    bits = np.unpackbits(np.asarray(hashing.hashed_bits(key, 4096)).view(np.uint8), bitorder="little").reshape(-1, 32)
    assert np.abs(bits.mean(0) - 0.5).max() < 5 * 0.5 / np.sqrt(len(bits))
    base = np.asarray(hashing.hashed_bits(key, 512))
    for word in (0, 1):
        for bit in range(32):
            flipped = key.copy()
            flipped[:, word] ^= np.uint32(1 << bit)
            changed = base ^ np.asarray(hashing.hashed_bits(flipped, 512))
            share = np.unpackbits(changed.view(np.uint8)).mean()
            assert 0.45 < share < 0.55, (word, bit, share)


def test_hash_noise_does_not_depend_on_the_batch_and_a_longer_record_continues_a_shorter_one():
    key = words(8)
    x = np.asarray(jax.jit(hashing.standard_normal, static_argnums=(1, 2))(key, 9, 50))
    np.testing.assert_array_equal(x[3:4], hashing.standard_normal(key[3:4], 9, 50))
    np.testing.assert_array_equal(x, np.asarray(hashing.standard_normal(key, 9, 80))[:, :50])
    # The published stream: these bytes change only together with HASH_VERSION.
    assert hashing.HASH_VERSION == 1
    bits = np.asarray(hashing.hashed_bits(np.array([[1, 2]], np.uint32), 3))[0]
    assert [hex(b) for b in bits] == ["0x10096566", "0xb5a72122", "0xf5a8b640"]


def test_the_same_draws_give_the_same_bytes_and_silence_is_silent():
    assert np.abs(draw("nothing", records=8, rate_hz=100)).max() < 1e-6
    np.testing.assert_array_equal(draw(records=8, rate_hz=100), draw(records=8, rate_hz=100))


@pytest.mark.parametrize("kind", KINDS)
def test_levels_are_log_normal_about_the_constants(kind):
    x = draw(kind, records=256).astype(np.float64)
    electrodes = slice(3, 9) if kind == "respiration" else slice(None)  # the constant is that of the chest
    harmonics = np.sqrt(sum(h**2 for h in WIDE.harmonics)) if kind == "powerline" else 1.0
    assert np.sqrt((x[:, electrodes] ** 2).mean()) == pytest.approx(LEVEL_MV * harmonics, rel=0.1)
    rms = np.sqrt((draw(kind, records=256, rate_hz=100, varied=True).astype(np.float64) ** 2).mean((1, 2)))
    if kind != "powerline":  # at 100 Hz of the mains only what the anti-alias filter leaves
        assert np.log(rms).std() == pytest.approx(LOG_SD, rel=0.15)


def test_wander_has_the_slope_and_the_band_of_its_constants():
    hz, density = signal.periodogram(draw("wander", rate_hz=20, seconds=100), 20, window="blackmanharris")
    power = density.mean((0, 1))
    assert power[(hz > 0.02) & (hz < 0.84)].sum() > 0.995 * power.sum()
    tones = np.geomspace(0.05, 0.8, noise.WANDER_TONES)
    of_tone = [power[np.abs(hz - tone) < 0.02].sum() for tone in tones[3:]]  # those that 100 s tell apart
    # In equal steps of log frequency 1 / f^β is a slope of 1 - β.
    assert np.polyfit(np.log(tones[3:]), np.log(of_tone), 1)[0] == pytest.approx(1 - WIDE.wander_exponent, abs=0.15)


def test_wander_of_neighbouring_chest_electrodes_is_related_that_of_limbs_is_not():
    x = draw("wander", records=1024, rate_hz=100)
    correlation = np.einsum("bes,bfs->ef", x, x)
    scale = np.sqrt(np.diag(correlation))
    correlation /= scale[:, None] * scale
    chest = ELECTRODES.index("V1")
    assert np.diag(correlation, 1)[chest:] == pytest.approx(WIDE.chest_coupling, abs=0.08)
    assert np.diag(correlation, 2)[chest:] == pytest.approx(WIDE.chest_coupling**2, abs=0.1)
    assert np.abs(correlation[:chest] - np.eye(9)[:chest]).max() < 0.12


@pytest.mark.parametrize(("rate_hz", "guard"), [(100, 0), (250, 10)])
def test_respiration_is_in_phase_with_the_breath(rate_hz, guard):
    x = draw("respiration", rate_hz=rate_hz, guard=guard)
    time_s = (np.arange(x.shape[-1]) - guard) / rate_hz
    breath = np.sin(2 * np.pi * 0.27 * time_s + 1.1)
    gain = x @ breath / (breath @ breath)
    np.testing.assert_allclose(x, gain[..., None] * breath, atol=2e-6)
    chest, limb = np.abs(gain[:, 3:]).mean(), np.abs(gain[:, :3]).mean()
    assert limb / chest == pytest.approx(WIDE.limb_respiration, rel=0.15)
    assert (gain[:, 3:] > 0).mean() > 0.9  # the chest moves together


def test_muscle_noise_has_its_density_at_any_rate_and_the_amplifier_is_white():
    level = []
    for rate_hz in (100, 500):
        hz, density = signal.welch(draw("emg", rate_hz=rate_hz), rate_hz, nperseg=rate_hz // 2)
        power = density.mean((0, 1))
        level.append(power[(hz > 3) & (hz < 9)].mean())
    assert level[0] == pytest.approx(level[1], rel=0.08)
    assert power[(hz > 37) & (hz < 43)].mean() / level[1] == pytest.approx(2.0, rel=0.12)
    hz, density = signal.welch(draw("amplifier"), 500, nperseg=200)
    power = density.mean((0, 1))[2:-2]
    assert np.abs(power / power.mean() - 1).max() < 0.05


def test_muscle_and_amplifier_noise_add_in_power():
    kinds = (("emg", "amplifier"), ("emg",), ("amplifier",))
    power = [signal.welch(draw(*kind), 500, nperseg=100)[1].mean((0, 1))[2:-2] for kind in kinds]
    np.testing.assert_allclose(power[0], power[1] + power[2], rtol=0.08)


def test_bursts_come_in_their_share_of_records_and_raise_muscle_noise_by_their_gain():
    x = draw("emg", "burst", records=512, rate_hz=100)
    local = np.sqrt((x.reshape(512, 9, 20, 50) ** 2).mean((1, 3)))
    rest = np.median(local)
    has = local.max(1) > 3 * rest
    assert has.mean() == pytest.approx(WIDE.burst, abs=0.08)
    assert np.median(local[has].max(1)) / rest == pytest.approx(8.0, rel=0.12)


def test_electrodes_move_in_few_records_and_mostly_one_at_a_time():
    x = draw("motion", records=512, rate_hz=100)
    peak = np.sort(np.abs(x).max(-1), axis=1)
    moved = peak[:, -1] > 0.1
    assert moved.mean() == pytest.approx(WIDE.motion, abs=0.08)
    assert np.median(peak[moved, -1]) == pytest.approx(WIDE.motion_mv, rel=0.15)
    assert np.median(peak[moved, -3]) < WIDE.motion_mv / 3
    assert (np.abs(x[~moved]).max((1, 2)) < 1e-6).mean() > 0.9


def test_the_mains_is_a_line_with_harmonics_where_the_rate_can_hold_them():
    hz, density = signal.periodogram(draw("powerline", records=256), 500, window="blackmanharris")
    power = density.mean((0, 1)) * (hz[1] - hz[0])
    near = [np.minimum(np.abs(hz - 50 * k), np.abs(hz - 60 * k)) < 1.5 for k in (1, 2, 3)]
    bands = [power[line].sum() for line in near]
    assert sum(bands) > 0.999 * power.sum()
    # A window spreads the power of a line over its equivalent noise bandwidth.
    assert np.sqrt(np.array(bands) / bands[0]) == pytest.approx(WIDE.harmonics, rel=0.1)
    hz, density = signal.periodogram(draw("powerline", rate_hz=100), 100)
    assert density[..., hz < 35].sum() < 0.01 * density.sum()  # nothing folds down into the band of the ECG


def test_filters_of_the_recorder_act_on_the_noise():
    sigma_s = np.float32(acquisition.lowpass_sigma_s(40.0))
    for rate_hz in (100, 500):
        spectra = [
            signal.welch(draw("amplifier", rate_hz=rate_hz, settings=s), rate_hz, nperseg=rate_hz // 2)
            for s in (None, settings_of(128, lowpass_sigma_s=sigma_s))
        ]
        hz, ratio = spectra[0][0], spectra[1][1].mean((0, 1)) / spectra[0][1].mean((0, 1))
        expected = np.exp(-((2 * np.pi * hz * sigma_s) ** 2))
        np.testing.assert_allclose(ratio[2:-2], expected[2:-2], atol=0.03)
        assert ratio[(hz >= 38) & (hz <= 42)].mean() == pytest.approx(0.5, abs=0.03)
    notched = draw("powerline", settings=settings_of(128, powerline_gain=np.float32(0.03)))
    np.testing.assert_allclose(notched, 0.03 * draw("powerline"), atol=1e-7)


def test_slow_noise_is_the_same_function_of_time_at_every_rate():
    fast = draw("wander", "respiration", "motion")
    np.testing.assert_allclose(draw("wander", "respiration", "motion", rate_hz=100), fast[..., ::5], atol=2e-5)
    guarded = draw("wander", "respiration", "motion", rate_hz=250, guard=10)
    np.testing.assert_allclose(guarded[..., 10:-10:5], fast[..., ::10], atol=2e-5)


def test_most_records_are_clean_and_some_are_bad():
    leads_mv = ELECTRODES_TO_LEADS @ draw(records=1024, rate_hz=100, levels=Noise())
    rms = np.sqrt(leads_mv.var(-1)).max(1)
    assert 0.02 < np.median(rms) < 0.12
    assert np.quantile(rms, 0.98) > 2.5 * np.median(rms)
    assert np.median(np.diff(leads_mv, axis=-1).std(-1).max(1)) < 0.02


def test_noise_of_different_records_is_uncorrelated():
    x = draw("emg", "amplifier", records=64, rate_hz=100).reshape(64, -1)
    rho = np.corrcoef(x) - np.eye(64)
    assert np.abs(rho).max() < 5.5 / np.sqrt(x.shape[1])  # coloured: somewhat fewer free samples than samples
    slow = draw("wander", records=256, rate_hz=100).reshape(256, -1)
    slow = slow / np.linalg.norm(slow, axis=1, keepdims=True)
    assert abs((slow @ slow.T)[np.triu_indices(256, 1)].mean()) < 0.01  # no drift that records share


def test_finite_over_the_whole_space_of_draws():
    records = 4096
    rng = np.random.default_rng(5)
    rows = rng.random((records, 128), dtype=np.float32)
    rows[: records // 2] = rng.choice(np.array([0.0, 1 - 2**-24], np.float32), (records // 2, 128))
    settings = jax.jit(jax.vmap(lambda row: acquisition.sample_acquisition(row, Acquisition(loose=0.3))))(rows)
    phases, respiration_hz = 100 * rows[:, 0], 0.05 + 2 * rows[:, 1]
    batch = compiled(Noise(burst=0.5, motion=0.5), 100, 2, 0)
    x = np.asarray(batch(rows, words(records, 5), phases, respiration_hz, settings))
    assert np.isfinite(x).all()
    assert np.abs(x).max() < 10


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("wander_mv", -0.1),
        ("emg_log_sd", float("nan")),
        ("burst", 1.5),
        ("motion", -0.1),
        ("wander_hz", (0.8, 0.05)),
        ("burst_gain", (0.0, 2.0)),
        ("motion_s", (0.1, 50.0)),
        ("wander_exponent", 9.0),
        ("emg_corner_hz", 0.0),
        ("powerline_hz", ()),
        ("powerline_hz", (5.0,)),
        ("harmonics", (1.0, -1.0)),
        ("chest_coupling", 2.0),
        ("motion_per_s", -1.0),
    ],
)
def test_wrong_constants_are_refused_by_name(field, value):
    with pytest.raises(ValueError, match=field):
        dataclasses.replace(Noise(), **{field: value})
