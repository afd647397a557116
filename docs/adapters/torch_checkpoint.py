"""An adapter: a PyTorch model that was exported whole (`torch.export.save`) and gives `(records, width)` of
`(records, leads, samples)` at 500 Hz."""

import torch
from scipy.signal import resample_poly

RATE_HZ = 500


def load(path):
    """The exported program: it holds its own code, so that no class of yours is needed, and no pickle is read."""
    return torch.export.load(path).module()


def features(model, ecg, rate, leads):
    """The model's output for records that are brought to its rate and layout."""
    x = resample_poly(ecg, RATE_HZ, rate, axis=1).swapaxes(1, 2).copy()
    with torch.inference_mode():
        return model(torch.from_numpy(x).float()).numpy()
