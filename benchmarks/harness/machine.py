"""What a benchmark ran on: one pinned core, the processor, versions, load, and the commit of the checkout."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from pathlib import Path
from typing import Any

_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS", "NPROC")
_PACKAGES = ("jax", "jaxlib", "numpy", "scipy", "neurokit2")
_ROOT = Path(__file__).parents[2]


def pin_to_one_core() -> int:
    """Keeps this process, and every thread it will start, on one core, and returns the core's number.

    To be called before NumPy and JAX are imported: their thread pools are sized when they load. Compiled programs are
    not taken from an earlier run's cache, so that first calls are what a user waits for.
    """
    core = max(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {core})
    for name in _THREADS:
        os.environ[name] = "1"
    flags = os.environ.get("XLA_FLAGS", "")
    os.environ["XLA_FLAGS"] = f"{flags} --xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1".strip()
    os.environ.pop("JAX_COMPILATION_CACHE_DIR", None)
    return core


def describe() -> dict[str, Any]:
    """The machine, versions of what takes part, the load averages of now, and the commit ("" outside a checkout)."""
    return {
        "processor": _processor(),
        "logical_cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in _PACKAGES},
        "load_average": [round(load, 2) for load in os.getloadavg()],
        "commit": commit(_ROOT / ".git"),
    }


def commit(git: Path) -> str:
    """The commit that the folder `.git` has checked out, "" where it cannot be read."""
    head = git / "HEAD"
    if not head.is_file():
        return ""
    text = head.read_text().strip()
    if not text.startswith("ref: "):
        return text
    name = text.removeprefix("ref: ")
    if (git / name).is_file():
        return (git / name).read_text().strip()
    packed = git / "packed-refs"
    lines = packed.read_text().splitlines() if packed.is_file() else []
    return next((line.split()[0] for line in lines if line.endswith(f" {name}")), "")


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"
