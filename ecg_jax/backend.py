"""What is decided before JAX's backend starts: where compiled programs are kept, and whether a GPU must be exact."""

from __future__ import annotations

import os
from pathlib import Path

import jax

#: Excludes GPU programs whose sums depend on timing. Every build of XLA knows the flag; only a GPU acts on it.
DETERMINISTIC = "--xla_gpu_deterministic_ops=true"


def configure(*, deterministic: bool = False) -> None:
    """Keeps compiled programs between starts, and with `deterministic` makes GPU runs bit-identical, if slower.

    To be called before the first array is made: flags are read when the backend starts. Programs are kept in the
    folder that JAX_COMPILATION_CACHE_DIR names, by default in the user's own cache, since they are trusted as code is;
    what XLA found by trying kernels out on a GPU is kept with them, so that a later start chooses the same ones.
    """
    if deterministic and not is_deterministic():
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {DETERMINISTIC}".strip()
    if not os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        jax.config.update("jax_compilation_cache_dir", str(home / "ecg-jax" / "compiled"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
    jax.config.update("jax_persistent_cache_enable_xla_caches", "xla_gpu_per_fusion_autotune_cache_dir")


def is_deterministic() -> bool:
    """Whether this process asked XLA for deterministic GPU programs."""
    return DETERMINISTIC in os.environ.get("XLA_FLAGS", "").split()
