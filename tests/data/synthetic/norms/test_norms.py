"""The table of published norms, the measurer, and the comparison, each against what is known beforehand."""

import dataclasses

import numpy as np
import pytest

from ecg_jax.data.ecg import LEADS
from ecg_jax.data.synthetic import norms
from ecg_jax.data.synthetic.annotate.annotation import Annotated
from ecg_jax.data.synthetic.norms.comparison import statistic
from ecg_jax.data.synthetic.norms.measure import variability
from ecg_jax.data.synthetic.norms.table import Norm, published, sources
from ecg_jax.data.synthetic.physiology.rhythm import Beat

RATE_HZ, SECONDS = 500, 10


def hand_made(rr_s: float = 0.8, is_female: float = 0.0, age_years: float = 50.0) -> Annotated:
    """A record of Gaussian waves whose measures are known: P 0.1, R 1, S -0.4, T 0.3 mV in lead II, others scaled."""
    onset_s = 0.5 + rr_s * np.arange(int((SECONDS - 1) / rr_s))
    time_s = np.arange(SECONDS * RATE_HZ) / RATE_HZ
    waves = (("p", -0.13, 0.015, 0.1), ("r", 0.04, 0.006, 1.0), ("s", 0.07, 0.006, -0.4), ("t", 0.30, 0.035, 0.3))
    lead = sum(
        size * np.exp(-0.5 * ((time_s - onset - at) / width) ** 2) for onset in onset_s for _, at, width, size in waves
    )
    scale = np.ones(12)
    scale[LEADS.index("V5")], scale[LEADS.index("V1")], scale[LEADS.index("aVF")] = 2.0, 0.5, 0.5
    relative = [[-0.18, -0.13, -0.08], [0.0, 0.04, 0.1], [0.19, 0.30, 0.40]]
    ecg = (lead[:, None] * scale)[None].astype(np.float32)
    return Annotated(
        ecg_mv=ecg,
        clean_mv=ecg,
        sample_rate_hz=RATE_HZ,
        fiducials_s=(onset_s[:, None, None] + np.array(relative))[None],
        beat=np.full((1, len(onset_s)), Beat.NORMAL),
        rhythm=np.zeros(1, int),
        morphology=np.zeros(1, int),
        met=((),),
        scp_codes=((),),
        spikes_visible=np.zeros(1, bool),
        patient={"is_female": np.array([is_female]), "age_years": np.array([age_years])},
    )


def test_the_measurer_finds_waves_of_known_size_and_place():
    found = {name: float(values[0]) for name, values in norms.measure(hand_made()).items()}
    assert list(found) == list(norms.MEASURES) and len(found) >= 40
    amplitudes = {"p_ii_mv": 0.1, "r_ii_mv": 1.0, "s_v1_mv": 0.2, "t_ii_mv": 0.3, "r_v5_mv": 2.0, "t_v5_mv": 0.6}
    for name, expected in amplitudes.items():
        assert found[name] == pytest.approx(expected, abs=0.01), name
    intervals = {"pr_ms": 180, "p_ms": 100, "qrs_ms": 100, "t_peak_end_ms": 100, "heart_rate_bpm": 75}
    for name, expected in intervals.items():
        assert found[name] == pytest.approx(expected, abs=2.1), name
    assert found["qtcf_ms"] == pytest.approx(400 / 0.8 ** (1 / 3), rel=0.01)
    assert found["jtcf_ms"] == pytest.approx(found["qtcf_ms"] - 100, abs=0.1)
    assert found["sokolow_lyon_mv"] == pytest.approx(0.2 + 2.0, abs=0.02)
    assert found["qrs_axis_deg"] == pytest.approx(np.degrees(np.arctan2(2 / np.sqrt(3) * 0.5, 1.0)), abs=0.5)
    # One Gaussian in all leads: symmetric, and its loop is a line.
    assert abs(found["t_skewness_v5"]) < 0.05 and found["t_loop_ratio_percent"] < 1.0
    assert found["t_slope_v5_uv_per_ms"] == pytest.approx(-0.6e3 / 35 * np.exp(-0.5), rel=0.02)


def test_a_skewed_wave_and_an_open_loop_are_seen():
    record = hand_made()
    time_s = np.arange(SECONDS * RATE_HZ) / RATE_HZ
    foot = sum(0.2 * np.exp(-0.5 * ((time_s - onset - 0.22) / 0.03) ** 2) for onset in record.fiducials_s[0, :, 1, 0])
    ecg = record.clean_mv.copy()
    ecg[0, :, LEADS.index("V5")] += foot
    found = norms.measure(dataclasses.replace(record, clean_mv=ecg))
    assert found["t_skewness_v5"][0] < -0.1
    assert found["t_loop_ratio_percent"][0] > 8.0


def test_variability_is_that_of_successive_normal_intervals():
    rr_ms = np.array([800.0, 820, 780, 830, 790, 810])
    onset_s = np.concatenate([[0.2], 0.2 + 1e-3 * np.cumsum(rr_ms)])
    found = variability(onset_s, np.full(7, Beat.NORMAL), 10.0)
    assert found["rmssd_ms"] == pytest.approx(np.sqrt((np.diff(rr_ms) ** 2).mean()))
    assert found["sdnn_ms"] == pytest.approx(rr_ms.std(ddof=1))
    beat = np.full(7, Beat.NORMAL)
    beat[3] = Beat.VENTRICULAR
    assert variability(onset_s, beat, 10.0)["rmssd_ms"] == pytest.approx(np.sqrt((20.0**2 + 20.0**2) / 2))
    assert variability(onset_s, beat, 2.0) == {}


def test_every_published_number_is_well_formed_and_has_a_source():
    assert len(published()) > 150
    assert {norm.source for norm in published()} == set(sources())
    assert not [text for pair in sources().values() for text in pair if not text]
    women = {(n.statistic, n.value) for n in published() if n.measure == "pr_ms" and n.source == "whi2013"}
    assert women == {("p02", 118.0), ("mean", 158.0), ("p98", 212.0)}


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"measure": "pq_ms"}, "measure is 'pq_ms'"),
        ({"statistic": "p97"}, "statistic is 'p97'"),
        ({"source": "hearsay"}, "source is 'hearsay'"),
        ({"confidence": "sure"}, "confidence is 'sure'"),
        ({"age_from": 80, "age_to": 70}, "80 to 70 years"),
        ({"value": float("nan")}, "nan at"),
    ],
)
def test_a_number_that_is_no_norm_is_refused(change, complaint):
    with pytest.raises(ValueError, match=complaint):
        dataclasses.replace(published()[0], **change)


def test_a_number_that_stands_there_twice_is_refused_with_its_line(monkeypatch):
    row = {field: str(value) for field, value in dataclasses.asdict(published()[0]).items()}
    monkeypatch.setattr(norms.table, "_rows", lambda name: [row, row] if name == "published.csv" else [])
    with pytest.raises(ValueError, match=r"published\.csv, line 3: .* stands there twice"):
        published.__wrapped__()


def test_the_comparison_takes_the_sex_and_age_of_the_norm():
    rng = np.random.default_rng(0)
    is_female, age = np.repeat([0.0, 1.0], 500), np.tile(np.linspace(20, 80, 500), 2)
    pr = np.where(is_female > 0.5, 158.0, 300.0) * np.exp(0.14 * rng.standard_normal(1000))
    measured = dict.fromkeys(norms.MEASURES, np.full(1000, np.nan)) | {"pr_ms": pr}
    norm = Norm("pr_ms", "women", 50, 79, "p50", 158.0, "whi2013", "", "read")
    tail = dataclasses.replace(norm, statistic="p98", value=158.0 * np.exp(0.14 * 2.054))
    few = dataclasses.replace(norm, age_from=50, age_to=52)
    men = dataclasses.replace(norm, sex="men")
    met, far, undecided, missed = norms.compare(measured, is_female, age, (norm, tail, few, men))
    assert met.is_met and 0.97 < met.ratio < 1.03 and 240 < met.records < 255
    assert far.is_met and abs(far.ratio - 1) < 0.15
    assert undecided.is_met is None and np.isnan(undecided.ratio)
    assert missed.is_met is False and missed.ratio == pytest.approx(300 / 158, rel=0.03)


def test_axes_have_no_ratio_and_extremes_decide_nothing():
    values = np.linspace(10.0, 80.0, 200)
    measured = dict.fromkeys(norms.MEASURES, values)
    axis = Norm("p_axis_deg", "both", 20, 70, "p50", 54.0, "elsa2017", "", "read")
    extreme = Norm("r_v1_mv", "both", 20, 70, "max", 80.0, "lepeschkin1951", "", "recalled")
    found = norms.compare(measured, np.zeros(200), np.full(200, 50.0), (axis, extreme))
    assert found[0].generated == pytest.approx(45.0) and np.isnan(found[0].ratio) and found[0].is_met is None
    assert found[1].ratio == 1.0 and found[1].is_met is None
    assert statistic(values, "p02") == pytest.approx(np.percentile(values, 2))


def test_what_no_source_covers_is_said():
    cells = norms.coverage()
    assert len(cells) == 8 * len(norms.MEASURES)
    assert cells["pr_ms", "women", (60, 74)] == "percentiles"
    assert cells["rmssd_ms", "men", (75, 90)] == "part"
    assert cells["p_v1_mv", "men", (18, 39)] == "none"
