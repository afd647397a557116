"""Pretraining of ECG foundation models on mixed synthetic and real recordings, and the axes of its scaling laws."""

from __future__ import annotations

import os
import typing

from ecg_jax.terminal.command import quiet_while_loading

if typing.TYPE_CHECKING:
    from ecg_jax.encoder import Encoder
    from ecg_jax.store.tables import Run


quiet_while_loading()


def load_encoder(path: str | os.PathLike[str]) -> Encoder:
    """The encoder that a study kept in the folder `path`: `encoder(ecg)` gives features; see `encoder.Encoder`.

    Raises FileNotFoundError or ValueError for a folder without an encoder, or one that is damaged, inconsistent, or
    written by a newer version.
    """
    # Here, so that importing the package loads no JAX.
    from ecg_jax.encoder import load_encoder as load

    return load(path)


def load_run(path: str | os.PathLike[str]) -> Run:
    """The finished run in the folder `path`, `STORE/<study>/runs/<run_id>`, as tables; see `store.Run`."""
    from pathlib import Path

    from ecg_jax.store.tables import load_run as load

    return load(Path(path))
