"""One recording from an EDF file (Kemp et al., Electroencephalogr Clin Neurophysiol 82:391, 1992), by pyedflib."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pyedflib

from ecg_jax.data.real.recording import first_line

#: What systems write before the name of a lead, as the standard texts of EDF+ ask for: "ECG V1".
_KIND = re.compile(r"^(ECG|EKG)[ _-]+", re.IGNORECASE)


def read_edf(
    path: Path, choose: Callable[[Sequence[str]], Sequence[int]]
) -> tuple[float, list[str], list[float], np.ndarray]:
    """The sampling rate (Hz), units, digital steps per unit, and signals `(samples, chosen)` in those units.

    `choose` picks signals by their names, of which "ECG" in front is taken away. Raises ValueError, as "reason:
    details", for a file that is no EDF or whose chosen signals differ in rate or length.
    """
    try:
        with pyedflib.EdfReader(str(path)) as file:
            order = choose([_KIND.sub("", label.strip()) for label in file.getSignalLabels()])
            rates = {float(file.getSampleFrequency(k)) for k in order}
            lengths = {int(file.getNSamples()[k]) for k in order}
            if len(rates) > 1 or len(lengths) > 1:
                raise ValueError(
                    f"rate: the leads of {path.name} have {sorted(rates)} Hz and {sorted(lengths)} samples"
                )
            units = [file.getPhysicalDimension(k).strip() for k in order]
            steps = [
                (file.getDigitalMaximum(k) - file.getDigitalMinimum(k))
                / ((file.getPhysicalMaximum(k) - file.getPhysicalMinimum(k)) or np.nan)
                for k in order
            ]
            signals = [file.readSignal(k) for k in order]
    except (OSError, RuntimeError, UnicodeDecodeError, OverflowError, MemoryError, ZeroDivisionError) as error:
        raise ValueError(f"unreadable: {path.name} is no EDF file: {first_line(error)}") from error
    if {len(signal) for signal in signals} != lengths:
        raise ValueError(f"truncated: {path.name} announces {max(lengths)} samples, {min(map(len, signals))} are there")
    return rates.pop(), units, steps, np.stack(signals, axis=1)
