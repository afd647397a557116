"""The recorder: lead algebra under every fault, filters against their definitions, quantisation and clipping."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import signal

from ecg_jax.data.synthetic.physiology.leads import ELECTRODES, ELECTRODES_TO_LEADS, twelve_leads
from ecg_jax.data.synthetic.recorder import acquisition
from ecg_jax.data.synthetic.recorder.acquisition import Acquisition, Swap

I, II, III, AVR, AVL, AVF = range(6)


@pytest.fixture(scope="module")
def sampled() -> acquisition.Settings:
    """Settings of many records, with many faults."""
    rows = np.random.default_rng(0).random((20_000, 128), dtype=np.float32)
    rows[:200] = np.random.default_rng(1).choice(np.array([0.0, 1 - 2**-24], np.float32), (200, 128))
    drawn = jax.vmap(lambda row: acquisition.sample_acquisition(row, Acquisition(loose=0.2)))
    return jax.tree.map(np.asarray, jax.jit(drawn)(rows))


def potentials(samples: int = 400, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.5, (samples, 9)).astype(np.float32)


def recorded(heart_Sx9: np.ndarray, noise_Sx9: np.ndarray, settings: acquisition.Settings) -> np.ndarray:
    """Twelve leads of the given potentials, `(samples, 12)`."""
    leads_mv = heart_Sx9 @ acquisition.heart_to_leads(settings).T + noise_Sx9 @ acquisition.noise_to_leads(settings).T
    return np.asarray(twelve_leads(acquisition.quantised(leads_mv, settings)))


def test_lead_algebra_holds_under_noise_swaps_loose_electrodes_and_quantisation(sampled):
    heart, noise = potentials(100), 0.3 * potentials(100, seed=1)

    def record(s):
        leads_mv = heart @ acquisition.heart_to_leads(s).T + noise @ acquisition.noise_to_leads(s).T
        return twelve_leads(acquisition.quantised(leads_mv, s))

    some = jax.tree.map(lambda leaf: leaf[:4000], sampled)
    assert set(some.swap.tolist()) == set(Swap)
    assert (some.loose >= 0).any()
    x = np.asarray(jax.jit(jax.vmap(record))(some))
    np.testing.assert_allclose(x[..., I] + x[..., III], x[..., II], atol=1e-6)
    np.testing.assert_allclose(x[..., AVR] + x[..., AVL] + x[..., AVF], 0, atol=1e-6)
    np.testing.assert_allclose(x[..., AVR], -(x[..., I] + x[..., II]) / 2, atol=1e-6)


@pytest.mark.parametrize(
    ("swap", "sources", "signs"),
    [
        (Swap.LA_RA, (I, III, II, AVL, AVR, AVF), (-1, 1, 1, 1, 1, 1)),
        (Swap.LA_LL, (II, I, III, AVR, AVF, AVL), (1, 1, -1, 1, 1, 1)),
        (Swap.RA_LL, (III, II, I, AVF, AVL, AVR), (-1, -1, -1, 1, 1, 1)),
    ],
)
def test_swapped_limbs_give_the_leads_that_textbooks_name(swap, sources, signs):
    plain = acquisition.faultless()
    swapped = dataclasses.replace(plain, permutation=jnp.asarray(acquisition.PERMUTATIONS)[swap])
    heart, noise = potentials(), 0.1 * potentials(seed=1)
    before, after = recorded(heart, noise, plain), recorded(heart, noise, swapped)
    np.testing.assert_allclose(after[:, :6], before[:, list(sources)] * np.array(signs), atol=2e-6)
    np.testing.assert_allclose(after[:, 6:], before[:, 6:], atol=2e-6)
    if swap is Swap.LA_RA:
        np.testing.assert_array_equal(after[:, I], -before[:, I])


def test_swapped_chest_electrodes_exchange_their_leads_and_nothing_else():
    plain = acquisition.faultless()
    for swap in (s for s in Swap if s.name.startswith("V")):
        swapped = dataclasses.replace(plain, permutation=jnp.asarray(acquisition.PERMUTATIONS)[swap])
        first = 6 + int(swap.name[1]) - 1
        order = np.arange(12)
        order[[first, first + 1]] = order[[first + 1, first]]
        x = [recorded(potentials(), 0.1 * potentials(seed=1), s) for s in (plain, swapped)]
        np.testing.assert_allclose(x[1], x[0][:, order], atol=2e-6)


def test_a_loose_electrode_hears_no_heart_and_more_noise():
    v3 = ELECTRODES.index("V3")
    gain, noise_gain = np.ones(9, np.float32), np.ones(9, np.float32)
    gain[v3], noise_gain[v3] = 0.0, 5.0
    settings = dataclasses.replace(acquisition.faultless(), electrode_gain=gain, noise_gain=noise_gain)
    heart = potentials()
    x = recorded(heart, np.zeros_like(heart), settings)
    np.testing.assert_allclose(x[:, 8], -heart[:, :3].mean(1), atol=2e-6)  # only Wilson's terminal is left
    others = [lead for lead in range(12) if lead != 8]
    plain = recorded(heart, np.zeros_like(heart), acquisition.faultless())
    np.testing.assert_allclose(x[:, others], plain[:, others], atol=2e-6)
    only_noise = np.asarray(acquisition.noise_to_leads(settings))
    np.testing.assert_allclose(only_noise[4, v3], 5.0 * ELECTRODES_TO_LEADS[4, v3])


def test_faults_and_recorders_come_in_their_shares(sampled):
    a, n = Acquisition(), len(sampled.swap)

    def assert_share(share: float, expected: float) -> None:
        assert abs(share - expected) < 5 * np.sqrt(expected * (1 - expected) / n) + 200 / n, (share, expected)

    assert_share((sampled.swap == Swap.LA_RA).mean(), a.arms_swapped)
    assert_share((sampled.swap == Swap.LA_LL).mean(), a.left_swapped)
    assert_share((sampled.swap == Swap.RA_LL).mean(), a.right_arm_leg_swapped)
    assert_share((sampled.swap >= Swap.V1_V2).mean(), a.chest_swapped)
    assert_share((sampled.loose >= 0).mean(), 0.2)
    assert_share((sampled.powerline_gain < 1).mean(), a.notch)
    for hz, share in zip(a.lowpass_hz, a.lowpass_shares):
        assert_share(np.isclose(sampled.lowpass_sigma_s, acquisition.lowpass_sigma_s(hz)).mean(), share)
    for hz, share in zip(a.highpass_hz, a.highpass_shares):
        assert_share(np.isclose(sampled.highpass_hz, hz).mean(), share)
    limb_swaps = a.arms_swapped + a.left_swapped + a.right_arm_leg_swapped
    assert 0.004 <= limb_swaps <= 0.04  # as published
    loose = sampled.loose >= 0
    assert (sampled.electrode_gain[loose, sampled.loose[loose]] == 0).all()
    assert (sampled.electrode_gain.sum(1) == 9 - loose).all()
    assert sampled.noise_gain.min() == 1.0
    assert sampled.noise_gain.max() <= a.loose_noise_gain[1] + 1e-4
    assert set(np.unique(sampled.loose)) == set(range(-1, 9))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(sampled))


def test_smoothing_kernels_in_closed_form_is_convolution():
    time_s = np.arange(-2.0, 2.0, 1e-4)
    width_s, weight = np.array([0.004, 0.010, 0.050], np.float32), np.array([[1.0], [-0.4], [0.2]], np.float32)
    sigma_s = acquisition.lowpass_sigma_s(40.0)
    impulse = np.exp(-0.5 * (time_s / sigma_s) ** 2)
    impulse /= impulse.sum()
    wider_s, lower = acquisition.smoothed(width_s, weight, sigma_s)
    for before, amplitude, after, smaller in zip(width_s, weight[:, 0], np.asarray(wider_s), np.asarray(lower)[:, 0]):
        kernel = amplitude * np.exp(-0.5 * (time_s / before) ** 2)
        expected = signal.fftconvolve(kernel, impulse, mode="same")
        shift = np.argmax(np.abs(expected)) - np.argmax(np.abs(kernel))  # "same" centres on an even grid
        got = smaller * np.exp(-0.5 * ((time_s - shift * 1e-4) / after) ** 2)
        np.testing.assert_allclose(got, expected, atol=1e-5)


def test_the_low_pass_is_down_by_three_decibels_at_its_cut_off():
    for cutoff_hz in (40.0, 100.0, 150.0):
        response = np.exp(-0.5 * (2 * np.pi * cutoff_hz * acquisition.lowpass_sigma_s(cutoff_hz)) ** 2)
        assert response == pytest.approx(np.sqrt(0.5))


@pytest.mark.parametrize(("rate_hz", "samples"), [(100, 1000), (250, 2520), (500, 5000), (500, 37)])
@pytest.mark.parametrize("highpass_hz", [0.05, 0.5])
def test_the_high_pass_is_the_recursive_filter(rate_hz, samples, highpass_hz):
    x = np.random.default_rng(0).normal(1.0, 0.5, (8, samples))
    a = np.exp(-2 * np.pi * highpass_hz / rate_hz)
    steady = x - x.mean(1, keepdims=True)
    expected = steady - signal.lfilter([1 - a], [1, -a], steady)
    got = acquisition.high_passed(jnp.asarray(x, jnp.float32), jnp.float32(highpass_hz), rate_hz)
    np.testing.assert_allclose(got, expected, atol=3e-6)


def test_the_high_pass_is_down_by_three_decibels_at_its_cut_off():
    time_s = np.arange(0, 60, 0.01)
    x = np.sin(2 * np.pi * 0.5 * time_s)[None].astype(np.float32)
    y = np.asarray(acquisition.high_passed(x, jnp.float32(0.5), 100))[0, 2000:]
    assert np.sqrt(2) * y.std() == pytest.approx(np.sqrt(0.5), rel=0.02)


def test_quantised_leads_are_whole_steps_within_half_a_step_and_clipped():
    settings = dataclasses.replace(acquisition.faultless(), lsb_mv=jnp.float32(0.005), clip_mv=jnp.float32(1.0))
    x = potentials()[:, :8]
    y = np.asarray(acquisition.quantised(x, settings), np.float64)
    np.testing.assert_allclose(y / 0.005, np.round(y / 0.005), atol=1e-4)
    inside = np.abs(x) < 1.0
    assert np.abs(y - x)[inside].max() <= 0.0025 + 1e-6
    assert (~inside).any()
    np.testing.assert_allclose(y[~inside], np.sign(x[~inside]), atol=1e-6)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("arms_swapped", 1.5),
        ("chest_swapped", -0.1),
        ("loose", float("nan")),
        ("notch_gain", 2.0),
        ("lowpass_hz", (10.0, 100.0, 150.0)),
        ("lowpass_shares", (0.5, 0.5)),
        ("lowpass_shares", (0.5, 0.5, 0.5)),
        ("highpass_hz", (0.05, 3.0)),
        ("highpass_shares", (1.5, -0.5)),
        ("lsb_mv", ()),
        ("lsb_mv", (0.0,)),
        ("clip_mv", (0.1,)),
        ("loose_noise_gain", (8.0, 2.0)),
    ],
)
def test_wrong_constants_are_refused_by_name(field, value):
    with pytest.raises(ValueError, match=field):
        dataclasses.replace(Acquisition(), **{field: value})


def test_swaps_that_sum_beyond_certainty_are_refused():
    with pytest.raises(ValueError, match="sum of the four"):
        Acquisition(arms_swapped=0.6, chest_swapped=0.6)
