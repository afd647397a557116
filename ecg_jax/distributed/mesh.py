"""The device mesh and the placement of batches: the only file that asks how many devices and hosts exist.

Axes: `member` holds a pack of independent runs (1 outside packs), `data` carries the batch and the fully sharded
parameters. Entry points set the mesh (`with jax.set_mesh(make_mesh()):`) before anything is built; library code
never does, because the setting holds for its own thread only.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax
import numpy as np
from jax.experimental import mesh_utils
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

AXES = ("member", "data")


def make_mesh(devices: Sequence[jax.Device] | None = None, members: int = 1) -> jax.sharding.Mesh:
    """An explicit `(members, devices / members)` mesh over `devices` (default: all).

    Devices of several slices (or GPU nodes) are laid out so that neighbours along `data` share their fast links, and
    only one step of a ring in each slice crosses the slower network. Raises ValueError when they do not divide evenly.
    """
    devices = jax.devices() if devices is None else devices
    if len(devices) % members:
        raise ValueError(f"{len(devices)} devices do not divide into {members} rows of a mesh")
    shape = (members, len(devices) // members)
    slices = len({getattr(device, "slice_index", 0) for device in devices})
    if slices > 1:
        if shape[1] % slices:
            raise ValueError(f"{shape[1]} devices of a mesh's row do not divide by {slices} slices: pack fewer members")
        inside, across = (members, shape[1] // slices), (1, slices)
        grid = mesh_utils.create_hybrid_device_mesh(inside, across, devices)
        return jax.sharding.Mesh(grid, AXES, axis_types=(AxisType.Explicit,) * 2)
    return jax.make_mesh(shape, AXES, axis_types=(AxisType.Explicit,) * 2, devices=devices)


def data_devices() -> int:
    """How many devices share a batch under the mesh in force."""
    return jax.sharding.get_abstract_mesh().shape["data"]


def check_batch(batch_records: int) -> None:
    """Raises ValueError when a global batch does not divide by the devices that share it."""
    devices = data_devices()
    if batch_records % devices:
        lower, upper = batch_records // devices * devices, -(-batch_records // devices) * devices
        choice = f"{lower} or {upper}" if lower else f"{upper}"
        raise ValueError(
            f"batch_records = {batch_records} does not divide by {devices} devices: choose {choice}, or fewer devices"
        )


def host_slice(batch_records: int) -> slice:
    """The contiguous part of every global batch that this host reads."""
    share = batch_records // jax.process_count()
    return slice(jax.process_index() * share, (jax.process_index() + 1) * share)


def place_batch(array: np.ndarray) -> jax.Array:
    """This host's slice of a global batch, as a global array sharded over `data` along its first axis."""
    return jax.make_array_from_process_local_data(NamedSharding(jax.sharding.get_mesh(), P("data")), array)


def place_members(array: np.ndarray) -> jax.Array:
    """What there is one of per member of a pack, `(K, ...)`, sharded over `member`; floats as float32."""
    array = np.asarray(array, np.float32) if np.issubdtype(np.asarray(array).dtype, np.floating) else np.asarray(array)
    return place(array, P("member"))


def place(array: np.ndarray, spec: P) -> jax.Array:
    """What every host has whole, spread over the mesh."""
    sharding = NamedSharding(jax.sharding.get_mesh(), spec)
    if jax.process_count() == 1:
        return jax.device_put(array, sharding)
    # `device_put` would have the hosts compare their arrays each time.
    return jax.make_array_from_callback(array.shape, sharding, lambda index: array[index])


def place_pack(array: np.ndarray) -> jax.Array:
    """This host's slice of the global batches of a pack, `(K, B, ...)`, sharded over `member` and `data`."""
    sharding = NamedSharding(jax.sharding.get_mesh(), P("member", "data"))
    return jax.make_array_from_process_local_data(sharding, array)


def shardable(size: int) -> str | None:
    """`"data"` where a dimension of `size` divides by the devices of that axis, else None (replicated)."""
    return "data" if size % data_devices() == 0 else None
