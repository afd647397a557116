"""What processes agree on: the first decides and writes, all others follow. Every function here is a collective: all
processes must call it, in the same order."""

from __future__ import annotations

import contextlib
import hashlib
import json
import platform
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from ecg_jax.distributed.rendezvous import ProcessesError


def is_primary() -> bool:
    """Whether this process is the one that writes."""
    return jax.process_index() == 0


def broadcast_from_primary(tree: Any) -> Any:
    """The first process's value, in JSON types, on all of them. All must call it, in the same order."""
    if jax.process_count() == 1:
        return tree
    text = json.dumps(tree).encode()
    size = int(multihost_utils.broadcast_one_to_all(np.int32(len(text))))
    buffer = np.zeros(size, np.uint8)
    if is_primary():
        buffer[:] = np.frombuffer(text, np.uint8)
    return json.loads(bytes(np.asarray(multihost_utils.broadcast_one_to_all(buffer), np.uint8)))


@contextlib.contextmanager
def primary_first() -> Iterator[None]:
    """The first process goes through this block, then all others."""
    if not is_primary():
        broadcast_from_primary(None)
    try:
        yield
    finally:
        if is_primary():
            broadcast_from_primary(None)


def assert_same_on_all(what: str, value: str) -> None:
    """Raises ProcessesError, on every process, naming each value and its hosts, unless all processes have one."""
    if jax.process_count() == 1:
        return
    line = f"{platform.node()} (process {jax.process_index()}): {value}".encode()[:256]
    buffer = np.zeros(256, np.uint8)
    buffer[: len(line)] = np.frombuffer(line, np.uint8)
    lines = np.asarray(multihost_utils.process_allgather(buffer)).reshape(jax.process_count(), 256)
    found = [bytes(row).rstrip(b"\0").decode(errors="replace") for row in lines.astype(np.uint8)]
    if len({text.partition(": ")[2] for text in found}) > 1:
        raise ProcessesError(f"the processes do not have the same {what}: {'; '.join(found)}")


def code_fingerprint() -> str:
    """Sixteen hex digits over the library's source."""
    digest = hashlib.sha256()
    root = Path(__file__).parents[1]
    for path in sorted(root.rglob("*.py")):
        digest.update(f"{path.relative_to(root)}\0".encode() + path.read_bytes())
    return digest.hexdigest()[:16]
