"""Zero-phase band-pass and polyphase resampling as one matrix product.

For a fixed length both are linear, so SciPy is applied once, to the identity, and every record, read on the host or
rendered on an accelerator, takes the same float32 matrix.
"""

from __future__ import annotations

import dataclasses
import functools
import math

import numpy as np
from scipy import signal

#: Pass band, Butterworth order and filter rate: the derivation of the published z-scored PTB-XL sample.
BAND_HZ = (0.5, 40.0)
BUTTERWORTH_ORDER = 4
FILTER_RATE_HZ = 500
#: Counts per millivolt ("mV", 1 µV per count) or per standard deviation ("NU").
COUNTS_PER_UNIT = 1000
#: Columns filtered at a time while a matrix is built: bounds the float64 work space (5000 x 500: 20 MB).
_COLUMN_BLOCK = 500
#: An offset of more than so many times a lead's swing is taken off before float32 would round the swing away.
_FAR = 1000
#: A lead that swings less than this share of its record's largest one holds rounding, not a signal: SciPy's transfer
#: functions leave 2.7e-4 mV of a constant of 7 V, and the quietest electrode gives 5e-3 mV.
FLAT_SHARE = 3e-4
#: Anti-image filter of the step to the filter rate: 80 dB, so that its ripple stays below 1e-3 of the signal.
_KAISER_BETA = 8.0


@dataclasses.dataclass(frozen=True)
class Steps:
    """The steps of the chain: a Butterworth band-pass of `order`, forwards and backwards, at `filter_rate_hz`.

    Raises ValueError for a band that is none at that rate.
    """

    band_hz: tuple[float, float] = BAND_HZ
    order: int = BUTTERWORTH_ORDER
    filter_rate_hz: int = FILTER_RATE_HZ

    def __post_init__(self) -> None:
        low, high = self.band_hz
        if not 0 < low < high < self.filter_rate_hz / 2:
            raise ValueError(
                f"band_hz is {self.band_hz}: a low and a higher edge between 0 and {self.filter_rate_hz / 2:g} Hz are "
                "needed"
            )
        if not 1 <= self.order <= 8:
            raise ValueError(f"order is {self.order}: 1 to 8 is what a stable band-pass allows")

    def parameters(self) -> dict[str, object]:
        """What the records of a set depend on of these steps, by name; kept with it, and compared when it is read."""
        return {
            "band_hz": [float(edge) for edge in self.band_hz],
            "butterworth_order": self.order,
            "filter_rate_hz": self.filter_rate_hz,
            "counts_per_unit": COUNTS_PER_UNIT,
        }


#: Those of the studies, and of synthetic records always.
STANDARD = Steps()


@functools.lru_cache(maxsize=4)
def chain_matrix(
    seconds: int, rate_in_hz: int, rate_out_hz: int, guard_samples: int = 0, steps: Steps = STANDARD
) -> np.ndarray:
    """The preprocessing of a recording of `seconds` as a matrix: `chain @ x` is the filtered, resampled `x`.

    Samples at `rate_in_hz` are brought to 500 Hz, filtered there (`steps`: Butterworth of order 4, 0.5-40 Hz, forwards
    and backwards) and resampled by a polyphase filter. Unit in, unit out. The last 500 Hz samples lie beyond the last
    sample of a slower grid, and the filter hangs on them: who can render more hands over `guard_samples` further
    samples on either side (10 suffice), and the result is that of the 500 Hz rendering at the ends as well.

    Returns float32 `(rate_out_hz * seconds, rate_in_hz * seconds + 2 * guard_samples)`, read-only and cached.
    Raises ValueError when a length or rate is too small, or the guard is no whole number of 500 Hz samples.
    """
    if seconds < 1:
        raise ValueError(f"seconds is {seconds}: a chain needs a length of at least 1 s")
    for name, rate_hz in (("rate_in_hz", rate_in_hz), ("rate_out_hz", rate_out_hz)):
        if rate_hz <= 2 * steps.band_hz[1]:
            raise ValueError(
                f"{name} is {rate_hz}: a band up to {steps.band_hz[1]} Hz needs more than {2 * steps.band_hz[1]} Hz"
            )
    if guard_samples < 0 or guard_samples * steps.filter_rate_hz % rate_in_hz:
        raise ValueError(
            f"guard_samples is {guard_samples}: at {rate_in_hz} Hz it must be a multiple of "
            f"{rate_in_hz // math.gcd(rate_in_hz, steps.filter_rate_hz)}, so that it ends on a "
            f"{steps.filter_rate_hz} Hz sample"
        )
    samples_in = seconds * rate_in_hz + 2 * guard_samples
    chain = np.empty((seconds * rate_out_hz, samples_in), np.float32)
    for start in range(0, samples_in, _COLUMN_BLOCK):
        width = min(_COLUMN_BLOCK, samples_in - start)
        impulses = np.eye(samples_in, width, -start)
        chain[:, start : start + width] = _filter_and_resample(impulses, rate_in_hz, rate_out_hz, guard_samples, steps)
    chain.setflags(write=False)
    return chain


def filtered(ecg_mv: np.ndarray, rate_in_hz: int, rate_out_hz: int, steps: Steps = STANDARD) -> np.ndarray:
    """Filters and resamples `(..., samples_in, leads)`: float32 `(..., samples_out, leads)`, unit in, unit out.

    All records and leads go through one matrix product. A lead that is constant is 0 afterwards, exactly. Raises
    ValueError when the length is not a whole number of seconds.
    """
    *batch, samples_in, leads = ecg_mv.shape
    if samples_in % rate_in_hz:
        raise ValueError(f"{samples_in} samples at {rate_in_hz} Hz are {samples_in / rate_in_hz} s, not whole seconds")
    chain = chain_matrix(samples_in // rate_in_hz, rate_in_hz, rate_out_hz, steps=steps)
    near = _without_far_offset(ecg_mv, axis=-2).astype(np.float32, copy=False)
    x_SxBL = np.moveaxis(near, -2, 0).reshape(samples_in, -1)
    return np.moveaxis((chain @ x_SxBL).reshape(-1, *batch, leads), 0, -2)


def flat_leads(ecg: np.ndarray) -> np.ndarray:
    """Which leads of `(..., samples, leads)` are constant, but for what a filter's rounding left of a constant: bool
    `(..., 1, leads)`.

    A constant that was filtered is 1e-14 to 1e-4 mV of rounding, in any unit; that is told from a small signal by the
    record's largest lead (`FLAT_SHARE`), and by what the array's type resolves at the lead's own level. Where all leads
    of a record are such rounding nothing tells.
    """
    x = ecg if ecg.dtype.kind == "f" else ecg.astype(np.float64)
    swing = np.ptp(x, axis=-2, keepdims=True)
    level = np.abs(x).max(axis=-2, keepdims=True, initial=0)
    resolved = max(4 * float(np.finfo(ecg.dtype).eps), 1e-9) if ecg.dtype.kind == "f" else 0.0
    largest = swing.max(axis=-1, keepdims=True, initial=0)
    return swing <= np.maximum(FLAT_SHARE * largest, resolved * level)


def _without_far_offset(ecg: np.ndarray, axis: int) -> np.ndarray:
    """The signals along `axis`, less the first sample of those whose swing is nothing beside it, constants among them.

    A band-pass takes any offset, but in float32 it leaves the rounding of it. Others are untouched, to the last bit.
    """
    if ecg.dtype.kind != "f":
        ecg = ecg.astype(np.float64)
    first = np.take(ecg, [0], axis=axis)
    far = np.abs(first) > _FAR * np.ptp(ecg, axis=axis, keepdims=True)
    return ecg - np.where(far, first, 0) if far.any() else ecg


def scaled(ecg: np.ndarray) -> np.ndarray:
    """Each lead of `(..., samples, leads)` with mean 0 and deviation 1 (unit "NU"); a flat one becomes 0."""
    flat = flat_leads(ecg)
    centred = ecg - ecg.mean(axis=-2, keepdims=True)
    return np.where(flat, 0, centred) / np.where(flat, 1, centred.std(axis=-2, keepdims=True))


def apply_chain(
    ecg_mv: np.ndarray, rate_in_hz: int, rate_out_hz: int, steps: Steps = STANDARD, *, normalised: bool = False
) -> np.ndarray:
    """Filters and resamples `(..., samples_in, 12)` millivolts: int16 `(..., samples_out, 12)`, 1 µV per count, or, if
    `normalised`, 1000 counts per standard deviation of a lead.

    Raises ValueError as `filtered` does, and when a value does not fit (`to_counts`).
    """
    ecg = filtered(ecg_mv, rate_in_hz, rate_out_hz, steps)
    return np.ascontiguousarray(to_counts(scaled(ecg) if normalised else ecg))


def to_counts(ecg: np.ndarray) -> np.ndarray:
    """Rounds `ecg` (millivolts, or standard deviations) to int16 at 1000 counts per unit, of the same shape.

    Raises ValueError when a value is not finite or does not fit int16 (beyond ±32.767).
    """
    counts = np.rint(ecg * COUNTS_PER_UNIT)
    limit = np.iinfo(np.int16).max
    largest = float(np.abs(counts).max(initial=0))
    if not largest <= limit:  # NaN compares false: it fails here too
        raise ValueError(
            f"largest amplitude {largest / COUNTS_PER_UNIT}: int16 at {COUNTS_PER_UNIT} counts per unit holds finite "
            f"values up to ±{limit / COUNTS_PER_UNIT}; check the gain and the unit of the recording"
        )
    return counts.astype(np.int16)


def band_passed(ecg: np.ndarray, rate_hz: int, axis: int, steps: Steps = STANDARD) -> np.ndarray:
    """The zero-phase band-pass along the axis of time, at the signal's own rate; unit in, unit out, and 0 of a
    constant."""
    ecg = _without_far_offset(ecg, axis)
    sections = signal.butter(steps.order, steps.band_hz, "bandpass", fs=rate_hz, output="sos")
    return signal.sosfiltfilt(sections, ecg, axis=axis)


def _filter_and_resample(
    x_SxC: np.ndarray, rate_in_hz: int, rate_out_hz: int, guard_samples: int, steps: Steps
) -> np.ndarray:
    """The chain in float64 on the columns of `x_SxC`; linear in them."""
    at_filter_rate = _resampled(x_SxC, rate_in_hz, steps.filter_rate_hz, guard_samples)
    filtered = band_passed(at_filter_rate, steps.filter_rate_hz, axis=0, steps=steps)
    common = math.gcd(rate_out_hz, steps.filter_rate_hz)
    up, down = rate_out_hz // common, steps.filter_rate_hz // common
    # Beyond its ends the signal goes on along the line through them: so was the z-scored sample made (99.8 % of its
    # counts come out the same; with zeros beyond the ends the first samples differ by up to one deviation).
    return signal.resample_poly(filtered, up, down, axis=0, padtype="line")


def _resampled(x_SxC: np.ndarray, rate_hz: int, filter_rate_hz: int, guard_samples: int) -> np.ndarray:
    """Brings the columns from `rate_hz` to the filter rate, without their guard samples.

    Both ends are continued by their odd reflection, as `sosfiltfilt` does: a polyphase filter sees zeros beyond the
    ends otherwise, and draws every recording that does not start and end at 0 mV towards them.
    """
    common = math.gcd(rate_hz, filter_rate_hz)
    up, down = filter_rate_hz // common, rate_hz // common
    if up != down:
        pad = down * round(0.2 * rate_hz / down)  # 0.2 s, a whole number of samples at both rates
        before = 2 * x_SxC[0] - x_SxC[pad:0:-1]
        after = 2 * x_SxC[-1] - x_SxC[-2 : -pad - 2 : -1]
        padded = np.concatenate((before, x_SxC, after))
        x_SxC = signal.resample_poly(padded, up, down, axis=0, window=("kaiser", _KAISER_BETA))
        guard_samples += pad
    start = guard_samples * up // down
    return x_SxC[start : len(x_SxC) - start]
