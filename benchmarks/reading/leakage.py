"""How surely the same recording is known again, and different ones are told apart
(`ecg_jax.data.real.quality.leakage`).

python -m benchmarks.reading.leakage --data /path/to/real /path/to/more --out results/benchmarks/leakage

About 6 minutes on two busy cores. Every recording of twelve leads and ten seconds below the folders is changed as other
collections, hospitals and tools change them, and compared with all recordings as the product keeps them; see README.md.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import wfdb
from scipy import ndimage, signal

from benchmarks.harness import machine
from benchmarks.harness.options import add_out
from ecg_jax.data import preprocess
from ecg_jax.data.ecg import INDEPENDENT_LEAD_INDICES, LEADS
from ecg_jax.data.real.quality import leakage

SECONDS, RATE_HZ, KEPT_HZ = 10, 500, 100
BLOCK = 128
#: Published twice under two numbers; the signals are the same.
TWINS = (("00137", "00138"), ("00143", "00144"), ("00145", "00463"), ("00456", "00457"), ("00459", "00460"))
TWINS += (("E07509", "E07510"),)

Change = Callable[[np.ndarray], np.ndarray]


def filtered_by(kind: str, edges_hz: float | tuple[float, float], order: int = 2) -> Change:
    """A zero-phase Butterworth filter at 500 Hz."""
    sections = signal.butter(order, edges_hz, kind, fs=RATE_HZ, output="sos")
    return lambda x: signal.sosfiltfilt(sections, x, axis=1)


def without_median(x: np.ndarray) -> np.ndarray:
    """Wander taken away by two median filters, of 200 and 600 ms, at 100 Hz."""
    slow = signal.resample_poly(x, 1, 5, axis=1, padtype="line")
    wander = ndimage.median_filter(ndimage.median_filter(slow, (1, 21, 1)), (1, 61, 1))
    return np.repeat(slow - wander, 5, axis=1)


def noisy(x: np.ndarray) -> np.ndarray:
    """White noise of a tenth of the energy that the product's filter leaves, at 100 Hz."""
    kept = preprocess.filtered(x, RATE_HZ, KEPT_HZ)
    noise = np.random.default_rng(0).normal(size=kept.shape) * kept.std(1, keepdims=True) * 10**-0.5
    return np.repeat(kept + noise, 5, axis=1)


def only(*leads: str) -> Change:
    """The named leads; the others are absent."""
    return lambda x: np.where(np.isin(LEADS, leads), x, 0)


def swapped_arms(x: np.ndarray) -> np.ndarray:
    """The electrodes of the two arms changed for each other."""
    i, ii, iii, avr, avl, avf = (x[..., k] for k in range(6))
    return np.concatenate([np.stack([-i, iii, ii, avl, avr, avf], axis=-1), x[..., 6:]], axis=-1)


def later(seconds: float) -> Change:
    """The recording as it is after so many seconds; the end stays where it was."""
    return lambda x: x[:, np.minimum(np.arange(x.shape[1]) + round(seconds * RATE_HZ), x.shape[1] - 1)]


#: The changes, and whether a copy that was changed so must be found.
CHANGES: dict[str, tuple[Change, bool]] = {
    "raw, wander left in": (lambda x: x, True),
    "band-passed, 0.05-150 Hz": (filtered_by("bandpass", (0.05, 150)), True),
    "band-passed, 0.5-40 Hz, order 4": (filtered_by("bandpass", (0.5, 40), 4), True),
    "high-passed, 0.67 Hz": (filtered_by("highpass", 0.67), True),
    "low-passed, 40 Hz": (filtered_by("lowpass", 40, 4), True),
    "notch, 49-51 Hz": (filtered_by("bandstop", (49, 51)), True),
    "wander by median filters": (without_median, True),
    "inverted": (lambda x: -x, True),
    "a fifth as large, steps of 5 uV": (lambda x: np.round(x / 5 / 0.005) * 0.005, True),
    "volts instead of millivolts": (lambda x: x / 1000, True),
    "standard deviations": (lambda x: (x - x.mean(1, keepdims=True)) / x.std(1, keepdims=True), True),
    "a tenth of the energy is noise": (noisy, True),
    "leads V1-V6 alone": (only(*LEADS[6:]), True),
    "leads I and II alone": (only("I", "II"), True),
    "10 ms later": (later(0.01), False),
    "lead II alone": (only("II"), False),
    "arms swapped": (swapped_arms, False),
    "1 s later": (later(1), False),
}


def before(ecg: np.ndarray, sample_rate_hz: int) -> np.ndarray:
    """The signature as it was: no high-pass, and the ends left in."""
    leads = ecg[:, :, INDEPENDENT_LEAD_INDICES].astype(np.float32)
    slow = signal.resample_poly(leads, leakage.SIGNATURE_RATE_HZ, sample_rate_hz, axis=1, padtype="mean")
    centred = slow - slow.mean(1, keepdims=True)
    size = np.sqrt((centred**2).sum(1, keepdims=True))
    return (centred / np.where(size > 0, size, 1)).astype(np.float32)


def recordings(folders: list[Path]) -> tuple[list[str], np.ndarray, dict[str, int]]:
    """Names, the first ten seconds in mV at 500 Hz `(records, 5000, 12)`, and how many files were left out and why."""
    names, signals, left_out = [], [], dict.fromkeys(("unreadable", "fewer leads or shorter", "flat or missing"), 0)
    for path in sorted(path for folder in folders for path in folder.rglob("*.hea")):
        if path.parent.parent.name in ("records100", "recordsz100"):
            continue  # copies of others: compared below
        try:
            record = wfdb.rdrecord(str(path.with_suffix("")))
            upper = [name.upper() for name in record.sig_name]
            order = [upper.index(lead.upper()) for lead in LEADS]
            if record.sig_len < SECONDS * record.fs:
                raise LookupError(path)
        except LookupError:
            left_out["fewer leads or shorter"] += 1
            continue
        except (ValueError, OSError):
            left_out["unreadable"] += 1
            continue
        x = record.p_signal[: round(SECONDS * record.fs), order]
        if np.isnan(x).any() or (np.ptp(x, axis=0) == 0).any():
            left_out["flat or missing"] += 1
            continue
        x = signal.resample_poly(x, RATE_HZ, int(record.fs), axis=0, padtype="line") if record.fs != RATE_HZ else x
        names.append(path.stem)
        signals.append(x.astype(np.float32))
    return names, np.stack(signals), left_out


def copies(folders: list[Path], pattern: str) -> tuple[list[str], np.ndarray]:
    """Names and signals of 100 Hz copies that the publisher of PTB-XL, or of the z-scored sample, made."""
    paths = sorted(path for folder in folders for path in folder.rglob(f"{pattern}/*/*.hea"))
    records = [wfdb.rdrecord(str(path.with_suffix(""))) for path in paths]
    order = [[[name.upper() for name in r.sig_name].index(lead.upper()) for lead in LEADS] for r in records]
    return [p.stem for p in paths], np.stack([r.p_signal[:, o] for r, o in zip(records, order)]).astype(np.float32)


def person(name: str) -> str:
    """One name for a recording of PTB-XL, whatever its file is called; twins have one."""
    name = name.removesuffix("_hr").removesuffix("_lr").removesuffix("_zr").removeprefix("HR")
    return next((twins[0] for twins in TWINS if name in twins), name)


def signatures(x: np.ndarray, change: Change, measure: Callable[[np.ndarray, int], np.ndarray]) -> np.ndarray:
    """The signatures of changed recordings, a block at a time."""
    blocks = (change(x[start : start + BLOCK]) for start in range(0, len(x), BLOCK))
    return np.concatenate([measure(block, RATE_HZ) for block in blocks])


def compared(first: list[str], second: list[str], alike: np.ndarray) -> Iterator[tuple[str, object]]:
    """The figures of all pairs of two lists: the same recordings, and different ones, each pair counted once."""
    same = np.array([person(name) for name in first])[:, None] == np.array([person(name) for name in second])
    once = np.array(first)[:, None] != np.array(second)
    other = alike[~same]
    yield "same", int(same.sum())
    yield "missed", int((alike[same] < leakage.THRESHOLD).sum())
    yield "lowest", float(alike[same].min()) if same.any() else np.nan
    yield "different", int((~same & once).sum())
    yield "false matches", int((other >= leakage.THRESHOLD).sum())
    yield "highest", float(other.max())


def tables(folders: list[Path]) -> tuple[pd.DataFrame, dict[str, object]]:
    """A row per change and measure, and what was left out."""
    names, x, left_out = recordings(folders)
    rows, z = [], copies(folders, "recordsz100")
    low = copies(folders, "records100")
    for title, measure in (("now", leakage.signature), ("before", before)):
        kept = preprocess.filtered(x, RATE_HZ, KEPT_HZ)
        reference = np.concatenate([measure(kept, KEPT_HZ), measure(z[1], KEPT_HZ)])
        everything = names + z[0]
        made = {"as the product keeps them": (everything, reference, True)}
        made["100 Hz, by the publisher"] = (low[0], measure(low[1], KEPT_HZ), True)
        for change, (work, must) in CHANGES.items():
            if title == "now" or must:
                made[change] = (names, signatures(x, work, measure), must)
        for change, (of, found, must) in made.items():
            figures = dict(compared(of, everything, leakage.similarity(found, reference)))
            rows.append({"measure": title, "copy": change, "must be found": must, **figures})
            print(rows[-1], flush=True)
    return pd.DataFrame(rows), {"recordings": len(names), "z-scored": len(z[0]), "left out": left_out}


def main() -> None:
    """Measures, and writes the table and its notes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = [Path(os.environ["ECG_DATA_DIR"])] if os.environ.get("ECG_DATA_DIR") else None
    parser.add_argument("--data", type=Path, nargs="+", default=default, help="folders of recordings (ECG_DATA_DIR)")
    add_out(parser, "leakage")
    options = parser.parse_args()
    if not options.data:
        parser.error("give --data, or set ECG_DATA_DIR")
    table, about = tables(options.data)
    options.out.mkdir(parents=True, exist_ok=True)
    table.to_csv(options.out / "likeness.csv", index=False, float_format="%.4f", lineterminator="\n")
    notes = about | {"threshold": leakage.THRESHOLD} | machine.describe()
    (options.out / "notes.json").write_text(json.dumps(notes, indent=1) + "\n")


if __name__ == "__main__":
    main()
