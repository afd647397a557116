"""The sheet: true to size, every lead where it belongs, nothing written by halves."""

import matplotlib.image
import numpy as np
import pytest

from ecg_jax.data import ecg_plot
from ecg_jax.data.ecg import LEADS

RATE_HZ = 250
MM_PER_PAGE = (297.0, 210.0)


def made_up_ecg(seconds: float = 10.0) -> np.ndarray:
    """Leads of different height with a beat every second, offset by 0.3 mV."""
    time_s = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    beat = np.exp(-0.5 * (((time_s - 0.5) % 1.0 - 0.5) / 0.02) ** 2)
    return 0.3 + beat[:, None] * np.linspace(0.2, 1.4, len(LEADS))


def traces(figure) -> list:
    return [line for line in figure.axes[0].lines if line.get_gid() in LEADS]


@pytest.fixture(scope="module")
def figure():
    return ecg_plot.draw(made_up_ecg(), RATE_HZ, title="Made up")


def test_page_is_a4_and_its_unit_is_the_millimetre(figure):
    np.testing.assert_allclose(figure.get_size_inches() * 25.4, MM_PER_PAGE)
    axes = figure.axes[0]
    assert (axes.get_xlim(), axes.get_ylim()) == ((0, MM_PER_PAGE[0]), (0, MM_PER_PAGE[1]))
    assert axes.get_position().bounds == (0, 0, 1, 1)


def test_format_is_four_columns_of_three_leads_above_lead_ii(figure):
    names = [line.get_gid() for line in traces(figure)]
    assert names == ["I", "aVR", "V1", "V4", "II", "aVL", "V2", "V5", "III", "aVF", "V3", "V6", "II"]
    written = [text.get_text() for text in figure.axes[0].texts]
    assert all(written.count(lead) == (2 if lead == "II" else 1) for lead in LEADS)
    starts = [line.get_xdata()[0] for line in traces(figure)]
    np.testing.assert_allclose(np.diff(starts[:4]), 62.5)
    np.testing.assert_allclose(starts[4:8], starts[:4])


def test_traces_run_at_25_mm_per_s_and_10_mm_per_mv(figure):
    ecg_mv = made_up_ecg()
    first_mm = traces(figure)[-1].get_xdata()[0]
    for line in traces(figure):
        x, y = line.get_data()
        samples = np.rint((x - first_mm) / 25.0 * RATE_HZ).astype(int)
        np.testing.assert_allclose(x - first_mm, 25.0 * samples / RATE_HZ, atol=1e-9)
        shown_mv = ecg_mv[samples, LEADS.index(line.get_gid())]
        np.testing.assert_allclose(np.diff(y), 10.0 * np.diff(shown_mv), atol=1e-9)
    assert len(traces(figure)[-1].get_xdata()) == 10 * RATE_HZ


def test_calibration_pulse_is_1_mv_for_200_ms_before_each_row(figure):
    pulses = [line for line in figure.axes[0].lines if len(line.get_xdata()) == 6]
    assert len(pulses) == 4
    for pulse in pulses:
        assert np.ptp(pulse.get_ydata()) == pytest.approx(10.0)
        top = pulse.get_xdata()[pulse.get_ydata() == pulse.get_ydata().max()]
        assert np.ptp(top) == pytest.approx(5.0)


def test_grid_has_lines_every_1_and_every_5_mm(figure):
    spacings = []
    for collection in figure.axes[0].collections:
        upright = sorted({line[0, 0] for line in collection.get_segments() if line[0, 0] == line[1, 0]})
        spacings.append(np.unique(np.round(np.diff(upright), 9)).tolist())
    assert spacings == [[1.0], [5.0]]


def test_pixels_of_the_png_are_tenths_of_a_millimetre(figure, tmp_path):
    ecg_plot.save(figure, tmp_path / "page.png")
    pixels = matplotlib.image.imread(tmp_path / "page.png")
    assert pixels.shape[:2] == (2100, 2970)
    assert [path.name for path in tmp_path.iterdir()] == ["page.png"]
    ruling = pixels[381:429, 140:2790, :3].min(axis=2).mean(axis=0)  # above the first trace, inside the edges
    every_5_mm = ruling.reshape(-1, 50)
    assert every_5_mm.std(axis=0).max() < 0.01
    assert np.ptp(every_5_mm.mean(axis=0)) > 0.2


@pytest.mark.parametrize(("suffix", "start"), [(".pdf", b"%PDF"), (".svg", b"<?xml")])
def test_vector_formats_keep_the_size(figure, tmp_path, suffix, start):
    path = tmp_path / f"page{suffix}"
    ecg_plot.save(figure, path)
    content = path.read_bytes()
    assert content.startswith(start)
    assert (b"/MediaBox [ 0 0 841.88" if suffix == ".pdf" else b'width="841.889') in content


def test_baseline_is_the_median_and_tall_traces_stay_in_the_grid(figure):
    tall = ecg_plot.draw(50.0 * made_up_ecg(), RATE_HZ, title="tall")
    for line, other in zip(traces(figure), traces(tall), strict=True):
        assert np.median(line.get_ydata()) == pytest.approx(np.median(other.get_ydata()))
    axes = tall.axes[0]
    for line in traces(tall):
        low, high = axes.transData.inverted().transform(line.get_clip_box().get_points())[:, 1]
        assert low >= 12.0 - 1e-6 and high <= 172.0 + 1e-6


def test_fiducials_are_marked_once_per_strip_that_holds_the_whole_wave():
    fiducials_s = np.full((3, 3, 3), np.nan)
    fiducials_s[0] = [[0.80, 0.85, 0.90], [0.96, 1.00, 1.06], [1.2, 1.3, 1.4]]
    fiducials_s[1, 1] = [2.45, 2.50, 2.55]  # across a change of leads: on the strip of lead II only
    axes = ecg_plot.draw(made_up_ecg(), RATE_HZ, title="", fiducials_s=fiducials_s).axes[0]
    marks = [collection for collection in axes.collections if collection.get_gid()]
    assert [sum(mark.get_gid() == letter for mark in marks) for letter in ("P", "QRS", "T")] == [4, 5, 4]
    left_mm = traces(axes.figure)[-1].get_xdata()[0]
    onset_mm = marks[0].get_segments()[0][0, 0]
    assert onset_mm - left_mm == pytest.approx(25.0 * 0.80)


def test_missing_samples_leave_gaps():
    ecg_mv = made_up_ecg()
    ecg_mv[:200, 1] = np.nan
    ecg_mv[:, 6] = np.nan
    drawn = {line.get_gid(): line.get_ydata() for line in traces(ecg_plot.draw(ecg_mv, RATE_HZ, title=""))}
    assert np.isnan(drawn["II"]).sum() == 200
    assert np.isnan(drawn["V1"]).all()
    assert np.isfinite(drawn["V6"]).all()


@pytest.mark.parametrize(
    ("ecg_mv", "rate_hz", "message"),
    [
        (made_up_ecg()[:, :8], RATE_HZ, r"\(2500, 8\)"),
        (made_up_ecg(9.9), RATE_HZ, "9.9 s"),
        (made_up_ecg(), 0, "sample_rate_hz is 0"),
        (np.full((2500, 12), np.inf), RATE_HZ, "30000 infinite"),
    ],
)
def test_what_cannot_be_drawn_is_refused(ecg_mv, rate_hz, message):
    with pytest.raises(ValueError, match=message):
        ecg_plot.draw(ecg_mv, rate_hz, title="")
    with pytest.raises(ValueError, match=message):
        ecg_plot.contact_sheet([("", ecg_mv)], rate_hz)


def test_contact_sheet_shows_all_panels_1600_pixels_wide(tmp_path):
    panels = [(f"condition {i}", made_up_ecg()) for i in range(5)]
    figure = ecg_plot.contact_sheet(panels, RATE_HZ)
    ecg_plot.save(figure, tmp_path / "contact.png")
    assert matplotlib.image.imread(tmp_path / "contact.png").shape[1] == 1600
    assert len(traces(figure)) == 5 * 13
    written = {text.get_text() for text in figure.axes[0].texts}
    assert {title for title, _ in panels} <= written
    left, right = figure.axes[0].get_xlim()
    for line in traces(figure):
        assert left <= line.get_xdata().min() and line.get_xdata().max() <= right
        assert np.diff(line.get_xdata())[0] == pytest.approx(25.0 / RATE_HZ)
    with pytest.raises(ValueError, match="no panels"):
        ecg_plot.contact_sheet([], RATE_HZ)


def test_save_neither_writes_over_a_file_nor_guesses_a_format(figure, tmp_path):
    (tmp_path / "there.png").write_text("mine")
    with pytest.raises(FileExistsError, match=r"there\.png"):
        ecg_plot.save(figure, tmp_path / "there.png")
    assert (tmp_path / "there.png").read_text() == "mine"
    with pytest.raises(ValueError, match=r"\.png, \.pdf, \.svg"):
        ecg_plot.save(figure, tmp_path / "page.jpg")
