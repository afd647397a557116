"""What is decided before JAX's backend starts: where compiled programs are kept, and whether a GPU must be exact."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import jax

#: Excludes GPU programs whose sums depend on timing. Every build of XLA knows the flag; only a GPU acts on it.
DETERMINISTIC = "--xla_gpu_deterministic_ops=true"


def configure(*, deterministic: bool = False) -> None:
    """Keeps compiled programs between starts, and with `deterministic` makes GPU runs bit-identical, if slower.

    To be called before the first array is made: flags are read when the backend starts. Programs are kept in the
    folder that JAX_COMPILATION_CACHE_DIR names, by default in the user's own cache, since they are trusted as code is;
    what XLA found by trying kernels out on a GPU is kept with them, so that a later start chooses the same ones. Where
    that folder cannot be named, made or written to, none are kept: a start then takes longer, and nothing else.
    """
    if deterministic and not is_deterministic():
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {DETERMINISTIC}".strip()
    jax.config.update("jax_compilation_cache_dir", _cache())
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
    jax.config.update("jax_persistent_cache_enable_xla_caches", "xla_gpu_per_fusion_autotune_cache_dir")


def _cache() -> str | None:
    """The folder of compiled programs, made; None where there can be none."""
    try:
        named = os.environ.get("JAX_COMPILATION_CACHE_DIR")
        if named and "://" in named:
            return named
        folder = Path(
            named or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ecg-jax" / "compiled"
        )
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return str(folder)
    except (OSError, RuntimeError):  # a home that is read-only, full or a file; no home at all
        return None


def is_deterministic() -> bool:
    """Whether this process asked XLA for deterministic GPU programs."""
    return DETERMINISTIC in os.environ.get("XLA_FLAGS", "").split()
