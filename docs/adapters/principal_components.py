"""An adapter: principal components of 200 ms patches, from a file `components.npy` of `(numbers, width)`."""

import numpy as np

LEADS = ("I", "II", "V1", "V2", "V3", "V4", "V5", "V6")


def load(path):
    """The components, `(patch samples x 8, width)`."""
    return np.load(path, allow_pickle=False)


def features(model, ecg, rate, leads):
    """Deviations of the components over a record's patches, `(records, width)`."""
    if any(lead not in leads for lead in LEADS):
        raise ValueError(f"the components are of {', '.join(LEADS)}; the records hold {', '.join(leads)}")
    x = ecg[..., [leads.index(lead) for lead in LEADS]]
    patches = x.reshape(len(x), -1, len(model))
    return (patches @ model).std(axis=1)
