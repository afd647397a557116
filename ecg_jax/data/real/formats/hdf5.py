"""Arrays of HDF5 files. These may name any file as the place of their data: only what a file itself holds is read."""

from __future__ import annotations

from ecg_jax.data.exclusions import first_line
from ecg_jax.extras import needs

with needs("real"):
    import h5py


def own_array(file: h5py.File, name: str) -> h5py.Dataset:
    """The array `name` of an open file.

    Raises KeyError when there is none, and ValueError when it lies elsewhere or the file is damaged.
    """
    try:
        link = file.get(name, getlink=True)
    except RuntimeError as error:  # of a damaged file, HDF5 raises what it raises of its own faults
        raise ValueError(f"its list of arrays is damaged ({first_line(error)})") from error
    if link is None:
        raise KeyError(f"there is no {name!r}")
    if not isinstance(link, h5py.HardLink):
        raise ValueError(f"{name!r} is a link, which is not followed")
    found = file[name]
    if not isinstance(found, h5py.Dataset):
        raise ValueError(f"{name!r} is no array")
    if found.external or found.is_virtual:
        raise ValueError(f"{name!r} lies in another file, which is not read")
    return found
