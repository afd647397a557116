"""A rule-based reading of 12-lead records, independent of the generator's own criteria.

It sees filtered samples, age, sex and the times of the R peaks, and delineates one averaged beat at 1 kHz: QRS by the
spatial velocity of the eight independent leads, P by their distance from the baseline, T by its tangent. Definitions:
AHA/ACCF/HRS 2009 (Circulation 119:e235–e261), fourth universal definition of myocardial infarction 2018 (UDMI),
Cornell voltage, Macfarlane et al. 2015 for early repolarisation. A limit is taken with the tolerance of the reading:
10 ms, 0.02 mV, 5°.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
from scipy import signal

from ecg_jax.data.synthetic import Morphology, Rhythm

LEADS = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")
_INDEPENDENT = [0, 1, *range(6, 12)]
_BEFORE_MS, _AFTER_MS = 520, 720
P_SHARE = 0.25
TOLERANCE_MS, TOLERANCE_MV, TOLERANCE_DEG = 10.0, 0.02, 5.0
#: Contiguous leads (UDMI): the inferior ones, the left ones, and neighbours along the chest.
_CONTIGUOUS = (
    ("II", "aVF"), ("III", "aVF"), ("I", "aVL"), ("V1", "V2"), ("V2", "V3"), ("V3", "V4"), ("V4", "V5"), ("V5", "V6")
)  # fmt: skip
_INFERIOR, _LATERAL, _ANTERIOR = ("II", "III", "aVF"), ("I", "aVL", "V5", "V6"), ("V1", "V2", "V3", "V4")


@dataclasses.dataclass(frozen=True)
class Reading:
    """What is measured on a record; times in ms within the averaged beat, NaN where there is no such wave."""

    beat_mv: np.ndarray  # (12, ms), against the baseline before the QRS complex
    rr_ms: np.ndarray  # (beats - 1,)
    p_ms: tuple[float, float]
    qrs_ms: tuple[int, int]
    t_end_ms: float
    male: bool
    age_years: float
    slack: float = 1.0  # 1: limits are taken generously by the tolerance of the reading; -1: as much more strictly

    @property
    def slack_ms(self) -> float:
        return self.slack * TOLERANCE_MS

    @property
    def slack_mv(self) -> float:
        return self.slack * TOLERANCE_MV

    @property
    def slack_deg(self) -> float:
        return self.slack * TOLERANCE_DEG

    def lead(self, name: str) -> np.ndarray:
        """The averaged beat in a lead."""
        return self.beat_mv[LEADS.index(name)]

    def qrs(self, name: str) -> np.ndarray:
        """A lead from onset to end of the QRS complex."""
        return self.lead(name)[self.qrs_ms[0] : self.qrs_ms[1] + 1]

    @property
    def heart_rate_bpm(self) -> float:
        return 60_000 / float(np.mean(self.rr_ms))

    @property
    def qrs_duration_ms(self) -> float:
        return self.qrs_ms[1] - self.qrs_ms[0]

    @property
    def pr_ms(self) -> float:
        return self.qrs_ms[0] - self.p_ms[0]

    @property
    def p_duration_ms(self) -> float:
        return self.p_ms[1] - self.p_ms[0]

    @property
    def qtcf_ms(self) -> float:
        return (self.t_end_ms - self.qrs_ms[0]) / np.cbrt(np.mean(self.rr_ms) / 1000)

    @property
    def axis_deg(self) -> float:
        """Frontal QRS axis from the net areas in I and aVF, aVF scaled as in an equilateral triangle."""
        area = {name: self.qrs(name).sum() for name in ("I", "aVF")}
        return float(np.degrees(np.arctan2(2 / np.sqrt(3) * area["aVF"], area["I"])))

    def r_mv(self, name: str) -> float:
        return max(0.0, float(self.qrs(name).max()))

    def s_mv(self, name: str) -> float:
        """Depth of the deepest negative deflection, as a positive number."""
        return max(0.0, float(-self.qrs(name).min()))

    def st_mv(self, name: str, after_j_ms: int = 0) -> float:
        return float(self.lead(name)[self.qrs_ms[1] + after_j_ms])

    def t_mv(self, name: str) -> tuple[float, float]:
        """Lowest and highest value of the T wave."""
        wave = self.lead(name)[self.qrs_ms[1] + 60 : int(self.t_end_ms)]
        return float(wave.min()), float(wave.max())

    def initial_q(self, name: str) -> tuple[float, float]:
        """Duration (ms) and depth (mV) of a negative first deflection; a QS complex counts whole."""
        wave = self.qrs(name)
        up = np.flatnonzero(wave > TOLERANCE_MV)
        down = np.flatnonzero(wave < -TOLERANCE_MV)
        if not len(down) or (len(up) and up[0] < down[0]):
            return 0.0, 0.0
        end = up[0] if len(up) else len(wave)
        crossing = np.flatnonzero(wave[:end] < 0)
        return float(crossing[-1] + 1), float(-wave[:end].min())

    def peak_time_ms(self, name: str) -> float:
        """From QRS onset to the highest R peak."""
        return float(self.qrs(name).argmax())


def band_passed(ecg_mv: np.ndarray, rate_hz: int) -> np.ndarray:
    """Records `(..., samples, 12)` through the zero-phase band-pass of 0.5 to 40 Hz, Butterworth of order 4."""
    sections = signal.butter(4, (0.5, 40.0), "bandpass", fs=rate_hz, output="sos")
    return signal.sosfiltfilt(sections, ecg_mv.astype(np.float64), axis=-2)


def measure(
    filtered_mv: np.ndarray, rate_hz: int, r_peaks_s: np.ndarray, age_years: float, male: bool
) -> Reading | None:
    """Reads one record `(samples, 12)` with known R peaks; None where fewer than two whole beats are alike."""
    seconds = len(filtered_mv) / rate_hz
    whole = r_peaks_s[(r_peaks_s > _BEFORE_MS / 1000 + 0.1) & (r_peaks_s < seconds - _AFTER_MS / 1000 - 0.1)]
    if len(whole) < 2:
        return None
    beats = _cut(filtered_mv, rate_hz, whole)
    beat = _typical(beats)
    qrs = _qrs_limits(beat)
    if qrs is None:
        return None
    beat = beat - beat[:, qrs[0] - 12 : qrs[0] - 3].mean(1, keepdims=True)
    rr_ms = 1000 * np.diff(r_peaks_s)
    t_end = _t_end(beat, qrs[1], float(np.mean(rr_ms)))
    previous_t_end = t_end + 20 - float(np.quantile(rr_ms, 0.2))
    return Reading(beat, rr_ms, _p_limits(beat, qrs[0], previous_t_end), qrs, t_end, male, age_years)


def _cut(filtered_mv: np.ndarray, rate_hz: int, at_s: np.ndarray) -> np.ndarray:
    """Beats around the given times at 1 kHz, `(beats, 12, ms)`."""
    up, down = 1000 // np.gcd(1000, rate_hz), rate_hz // np.gcd(1000, rate_hz)
    fine = signal.resample_poly(filtered_mv, up, down, axis=0, padtype="line") if up != down else filtered_mv
    span = np.arange(-_BEFORE_MS, _AFTER_MS)
    return np.stack([fine[np.rint(1000 * s).astype(int) + span].T for s in at_s])


def _typical(beats: np.ndarray) -> np.ndarray:
    """The mean of the beats whose QRS complexes resemble the median beat's, `(12, ms)`."""
    near = slice(_BEFORE_MS - 60, _BEFORE_MS + 60)
    shapes = beats[:, _INDEPENDENT, near].reshape(len(beats), -1)
    likeness = np.array([np.corrcoef(shape, np.median(shapes, axis=0))[0, 1] for shape in shapes])
    return (
        beats[likeness > min(0.95, np.median(likeness))].mean(0)
        if (likeness > 0.95).any()
        else np.median(beats, axis=0)
    )


def _velocity(beat: np.ndarray, leads: list[int] = _INDEPENDENT) -> np.ndarray:
    """Spatial velocity over leads in mV/s, `(ms,)`."""
    return 1000 * np.linalg.norm(np.gradient(beat[leads], axis=1), axis=0)


def _grown(fast: np.ndarray, seed: int, gap_ms: int) -> tuple[int, int]:
    """First and last of the `fast` instants that hang together with `seed` over gaps of at most `gap_ms`."""
    first = last = seed
    while len(earlier := fast[(fast < first) & (fast >= first - gap_ms)]):
        first = int(earlier[0])
    while len(later := fast[(fast > last) & (fast <= last + gap_ms)]):
        last = int(later[-1])
    return first, last


def _qrs_limits(beat: np.ndarray, leads: list[int] = _INDEPENDENT) -> tuple[int, int] | None:
    """Where the spatial velocity exceeds a tenth of its peak; None without a complex."""
    start = _BEFORE_MS - 90
    velocity = _velocity(beat, leads)[start : _BEFORE_MS + 130]
    if velocity.max() < 5.0:
        return None
    fast = np.flatnonzero(velocity > max(3.0, 0.10 * velocity.max()))
    first, last = _grown(fast, int(velocity.argmax()), gap_ms=18)
    return first + start, last + start


def _t_end(beat: np.ndarray, j: int, rr_ms: float) -> float:
    """Where the steepest tangent behind the T wave's peak meets the baseline, in the lead with the tallest T wave."""
    start, stop = j + 60, int(min(beat.shape[1] - 1, j + 0.7 * rr_ms))
    tallest, at = 0.0, None
    for wave in beat[_INDEPENDENT, start:stop]:
        peaks, _ = signal.find_peaks(np.abs(wave))
        if len(peaks) and (top := np.abs(wave[peaks]).max()) > tallest:
            tallest, at = top, (wave, int(peaks[np.abs(wave[peaks]).argmax()]))
    if at is None:
        return float(stop)
    wave, peak = at[0] * np.sign(at[0][at[1]]), at[1]
    slope = np.gradient(wave)[peak : peak + 160]
    end = start + peak + slope.argmin() - wave[peak + slope.argmin()] / min(slope.min(), -1e-4)
    return float(np.clip(end, j + 100, stop + 60))


def _p_limits(beat: np.ndarray, qrs_on: int, previous_t_end: float) -> tuple[float, float]:
    """Limits of the P wave: its peak stands furthest above its surroundings, 60 ms to either side."""
    start, stop = int(min(max(70, previous_t_end, qrs_on - 420), qrs_on - 160)), qrs_on - 12
    if stop - start < 40:
        return np.nan, np.nan
    leads = beat[_INDEPENDENT]
    # Samples that reach into the QRS complex say nothing of the P wave: there the chord ends before it.
    at = np.arange(start, stop)
    right = np.minimum(at + 60, stop)
    bump = leads[:, at] - (leads[:, at - 60] + leads[:, right]) / 2
    height = np.linalg.norm(bump, axis=0)
    peaks, found = signal.find_peaks(height, prominence=0.005)  # the foot of the T wave falls off: it is no peak
    if not len(peaks):
        return np.nan, np.nan
    peak = int(peaks[found["prominences"].argmax()])
    velocity = _velocity(beat)[start:stop]
    around = slice(max(0, peak - 90), peak + 90)
    fast = np.flatnonzero(velocity > P_SHARE * velocity[around].max())
    first, _ = _grown(fast, peak, gap_ms=25)
    # The filter's ripple ahead of the QRS complex is as fast as a P wave, but not as high.
    line = np.linspace(leads[:, start + first], leads[:, stop : stop + 9].mean(1), stop - start - first, axis=1)
    height = np.linalg.norm(leads[:, start + first : stop] - line, axis=0)[peak - first :]
    low = np.flatnonzero(height < 0.1 * height[:40].max())
    return float(start + first), float(start + peak + (low[0] if len(low) else len(height) - 1))


# Criteria ------------------------------------------------------------------------------------------------------------


def _contiguous(r: Reading, holds: Callable[[str], bool]) -> bool:
    """Whether something holds in two contiguous leads."""
    return any(holds(one) and holds(other) for one, other in _CONTIGUOUS)


def _within(leads: tuple[str, ...], r: Reading, holds: Callable[[str], bool]) -> bool:
    """The same within a territory."""
    pairs = [pair for pair in _CONTIGUOUS if set(pair) <= set(leads)]
    return any(holds(one) and holds(other) for one, other in pairs)


def _wide(r: Reading) -> bool:
    return r.qrs_duration_ms >= 120 - r.slack_ms


def right_bundle_branch_block(r: Reading) -> bool:
    """QRS >= 120 ms, terminal R in V1 or V2 above the first, S in I and V6 of 40 ms (or longer than R)."""

    def wide_s(name: str) -> bool:
        wave = r.qrs(name)
        below = (wave[wave.argmax() :] < 0).sum()
        return below >= 40 - r.slack_ms or below > (wave > 0).sum()

    def terminal_r(name: str) -> bool:
        wave = r.qrs(name)
        return wave.argmax() > 50 and wave.max() > 0.05

    return _wide(r) and (terminal_r("V1") or terminal_r("V2")) and wide_s("I") and wide_s("V6")


def left_bundle_branch_block(r: Reading) -> bool:
    """QRS >= 120 ms, no q in I, V5, V6, R peaks there after 60 ms, rS or QS in V1."""
    no_q = all(r.initial_q(name)[1] < 0.05 for name in ("I", "V6"))
    late = max(r.peak_time_ms("V5"), r.peak_time_ms("V6")) > 60 - r.slack_ms
    return _wide(r) and no_q and late and r.s_mv("V1") > r.r_mv("V1")


def left_anterior_fascicular_block(r: Reading) -> bool:
    """Axis -45° to -90°, qR in aVL with the R peak from 45 ms on, QRS < 120 ms."""
    axis = -90 - r.slack_deg <= r.axis_deg <= -45 + r.slack_deg
    in_avl = r.qrs("aVL")
    q = in_avl[: in_avl.argmax() + 1].min() < 0
    return axis and q and r.peak_time_ms("aVL") >= 45 - r.slack_ms and r.qrs_duration_ms < 120 + r.slack_ms


def left_posterior_fascicular_block(r: Reading) -> bool:
    """Axis 90° to 180°, rS in I and aVL, qR in III and aVF, QRS < 120 ms."""
    axis = r.axis_deg >= 90 - r.slack_deg or r.axis_deg <= -180 + r.slack_deg
    rs = all(r.s_mv(name) > r.r_mv(name) for name in ("I", "aVL"))
    qr = all(r.initial_q(name)[1] > 0 or r.qrs(name)[:30].min() < 0 for name in ("III", "aVF"))
    return axis and rs and qr and r.qrs_duration_ms < 120 + r.slack_ms


def pre_excitation(r: Reading) -> bool:
    """PR < 120 ms, QRS >= 120 ms, and a delta wave: the first 25 ms slower than 0.6 of the fastest part."""
    velocity = _velocity(r.beat_mv)[r.qrs_ms[0] : r.qrs_ms[1]]
    return r.pr_ms < 120 + r.slack_ms and _wide(r) and velocity[:25].max() < 0.6 * velocity.max()


def st_elevation(r: Reading, leads: tuple[str, ...]) -> bool:
    """UDMI: at the J point 0.1 mV in two contiguous leads; in V2-V3 0.15 (women), 0.2 (men), 0.25 mV (men under 40)."""
    of_v2_v3 = (0.25 if r.age_years < 40 else 0.2) if r.male else 0.15

    def raised(name: str) -> bool:
        return r.st_mv(name) >= (of_v2_v3 if name in ("V2", "V3") else 0.1) - r.slack_mv

    return _within(leads, r, raised)


def st_depression(r: Reading) -> bool:
    """UDMI: 0.05 mV, horizontal or falling, in two contiguous leads (from J to 40 ms later)."""

    def sunk(name: str) -> bool:
        return r.st_mv(name) <= -0.05 + r.slack_mv / 2 and r.st_mv(name, 40) <= -0.05 + r.slack_mv / 2

    return _contiguous(r, sunk)


def q_waves(r: Reading, leads: tuple[str, ...]) -> bool:
    """UDMI: Q of 30 ms and 0.1 mV in two contiguous leads; in V2 and V3 of 20 ms."""

    def pathological(name: str) -> bool:
        width, depth = r.initial_q(name)
        least = 20 if name in ("V2", "V3") else 30
        return width >= least - r.slack_ms / 2 and depth >= 0.1 - r.slack_mv

    return _within(leads, r, pathological)


def left_ventricular_hypertrophy(r: Reading) -> bool:
    """Cornell: R in aVL and S in V3 above 2.8 mV (men), 2.0 mV (women)."""
    return r.r_mv("aVL") + r.s_mv("V3") > (2.8 if r.male else 2.0) - 3 * r.slack_mv


def right_ventricular_hypertrophy(r: Reading) -> bool:
    """AHA: right axis deviation and R above S in V1 of 0.6 mV, or R in V1 and S in V5 or V6 above 1.05 mV."""
    tall = r.r_mv("V1") > 0.6 - r.slack_mv or r.r_mv("V1") + max(r.s_mv("V5"), r.s_mv("V6")) > 1.05 - r.slack_mv
    return r.axis_deg >= 90 - r.slack_deg and r.r_mv("V1") > r.s_mv("V1") and tall


def _p_wave(r: Reading, name: str) -> np.ndarray:
    """The P wave of a lead over the straight line through its limits."""
    if np.isnan(r.p_ms[0]):
        return np.zeros(1)
    on, off = int(r.p_ms[0]), int(r.p_ms[1])
    wave = r.lead(name)[on : off + 1]
    return wave - np.linspace(wave[0], wave[-1], len(wave))


def left_atrial_enlargement(r: Reading) -> bool:
    """P of 120 ms, and a terminal part in V1 of 0.1 mV × 40 ms."""
    wave = -_p_wave(r, "V1")
    terminal_ms = (wave > 0.1 * wave.max()).sum()
    return r.p_duration_ms >= 120 - r.slack_ms and wave.max() * terminal_ms >= 4.0 - 20 * r.slack_mv


def right_atrial_enlargement(r: Reading) -> bool:
    """P above 0.25 mV in an inferior lead, or its first part above 0.15 mV in V1."""
    return max(_p_wave(r, "II").max(), _p_wave(r, "aVF").max()) > 0.25 - r.slack_mv or (
        _p_wave(r, "V1").max() > 0.15 - r.slack_mv
    )


def long_qt(r: Reading) -> bool:
    """AHA: QTc of 450 ms (men), 460 ms (women), after Fridericia."""
    return r.qtcf_ms >= (450 if r.male else 460) - r.slack_ms


def t_inversion(r: Reading) -> bool:
    """AHA: T below -0.1 mV in two contiguous leads of I, II, aVL, V2 to V6."""

    def inverted(name: str) -> bool:
        low, high = r.t_mv(name)
        return name not in ("III", "aVF", "V1") and low <= -0.1 + r.slack_mv and -low > high

    return _contiguous(r, inverted)


def early_repolarisation(r: Reading) -> bool:
    """Macfarlane 2015: a notch or slur at the QRS end, of 0.1 mV, in two inferior or lateral leads; QRS < 120 ms."""

    def notched(name: str) -> bool:
        first = r.qrs_ms[1] - 40
        end = r.lead(name)[first : r.qrs_ms[1] + 12]
        peaks, _ = signal.find_peaks(end)
        own = [end[peak] for peak in peaks if first + peak > r.qrs_ms[0] + r.peak_time_ms(name) + 15]
        return max(end[-12], *own, -9.0) >= 0.1 - r.slack_mv

    # Where there is a notch, its own time does not count.
    without = _qrs_limits(r.beat_mv, [LEADS.index(name) for name in ("V1", "V2")])
    return (
        without is not None
        and without[1] - without[0] < 120 + r.slack_ms
        and (_within(_INFERIOR, r, notched) or _within(_LATERAL, r, notched))
    )


def low_voltage(r: Reading) -> bool:
    """AHA: QRS of less than 0.5 mV in all limb leads, or 1 mV in all chest leads."""
    height = {name: r.r_mv(name) + r.s_mv(name) for name in LEADS}
    return (
        max(height[name] for name in LEADS[:6]) < 0.5 + r.slack_mv
        or max(height[name] for name in LEADS[6:]) < 1.0 + r.slack_mv
    )


#: What each label asserts.
CRITERIA: dict[Morphology | Rhythm, Callable[[Reading], bool]] = {
    Morphology.RBBB: right_bundle_branch_block,
    Morphology.LBBB: left_bundle_branch_block,
    Morphology.LAFB: left_anterior_fascicular_block,
    Morphology.LPFB: left_posterior_fascicular_block,
    Morphology.WPW: pre_excitation,
    Morphology.STEMI_ANTERIOR: lambda r: st_elevation(r, _ANTERIOR),
    Morphology.STEMI_INFERIOR: lambda r: st_elevation(r, _INFERIOR),
    Morphology.STEMI_LATERAL: lambda r: st_elevation(r, _LATERAL),
    Morphology.ISCHAEMIA: st_depression,
    Morphology.OLD_MI_ANTERIOR: lambda r: q_waves(r, _ANTERIOR),
    Morphology.OLD_MI_INFERIOR: lambda r: q_waves(r, _INFERIOR),
    Morphology.OLD_MI_LATERAL: lambda r: q_waves(r, _LATERAL),
    Morphology.LVH: left_ventricular_hypertrophy,
    Morphology.RVH: right_ventricular_hypertrophy,
    Morphology.LEFT_ATRIAL_ENLARGEMENT: left_atrial_enlargement,
    Morphology.RIGHT_ATRIAL_ENLARGEMENT: right_atrial_enlargement,
    Morphology.LONG_QT: long_qt,
    Morphology.T_INVERSION: t_inversion,
    Morphology.EARLY_REPOLARISATION: early_repolarisation,
    Morphology.LOW_VOLTAGE: low_voltage,
    Rhythm.SINUS_BRADYCARDIA: lambda r: r.heart_rate_bpm < 60 + 0.1 * r.slack_ms,
    Rhythm.SINUS_TACHYCARDIA: lambda r: r.heart_rate_bpm > 100 - 0.1 * r.slack_ms,
    Rhythm.AV_BLOCK_1: lambda r: r.pr_ms > 200 - r.slack_ms,
}
