"""An adapter: features of random convolutions, from a file that holds their seed and number, such as `0 256`."""

import numpy as np
from scipy.signal import fftconvolve


def load(path):
    """Random kernels `(number, samples, 12)` of 400 ms at 100 Hz."""
    seed, number = map(int, path.read_text().split())
    return np.random.default_rng(seed).normal(size=(number, 40, 12)).astype(np.float32)


def features(model, ecg, rate, leads):
    """The share of positive responses and the greatest of every kernel, `(records, 2 x number)`."""
    if rate != 100 or len(leads) != 12:
        raise ValueError(f"the kernels are for 12 leads at 100 Hz, the records are {len(leads)} leads at {rate} Hz")
    found = []
    for kernel in model:
        response = fftconvolve(ecg, kernel[None, ::-1], mode="valid", axes=1).sum(axis=-1)
        found += [(response > 0).mean(axis=1), response.max(axis=1)]
    return np.stack(found, axis=1)
