"""Speed of the train step against the same model written plainly in PyTorch, in one run.

python -m benchmarks.training.train_step --torch-python /path/to/python --out results/benchmarks/train_step

Both get the same batch, weights and hyperparameters, first show that loss and gradient agree, and then take turns.
PyTorch may live in an environment of its own. On a GPU (`--gpu`) both compute in bfloat16, PyTorch compiled.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.harness import machine
from benchmarks.harness.options import add_out
from benchmarks.harness.writing import write_csv, write_json
from ecg_jax.config import ModelConfig, Precision
from ecg_jax.data.ecg import INDEPENDENT_LEAD_INDICES
from ecg_jax.objectives.masked import UNIT_OF_LEAD, UNIT_OF_TARGET
from ecg_jax.scaling import flops, ladder, mup

BATCH_RECORDS = 64
MASK_RATIO = 0.6
#: Both sides keep what they free. XLA allocates a step's scratch memory anew for every step on a CPU, and glibc hands
#: blocks of that size back to the system at once: a quarter of a step at 1M parameters went into page faults.
MALLOC = {"MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "-1"}
#: Loss and gradient norm of both must agree to this; bfloat16 rounds to 0.004, and not in the same places.
AGREEMENT = {Precision.FLOAT32: 1e-4, Precision.BFLOAT16: 3e-2}


@dataclasses.dataclass(frozen=True)
class Setting:
    """One comparison: a size of model, on so many threads of a CPU, or on a GPU (0 threads)."""

    size: int
    threads: int
    compiled: bool
    keep_freed: bool

    @property
    def model(self) -> ModelConfig:
        """The rung, in the precision of its device."""
        precision = Precision.FLOAT32 if self.threads else Precision.BFLOAT16
        return ladder.model_config(self.size, precision=precision)

    def specification(self) -> dict[str, Any]:
        """What the other side needs to know, in JSON types."""
        c, optim = self.model, ladder.optim_config()
        return {
            **{name: getattr(c, name) for name in ("width", "depth", "heads", "patches", "patch_samples")},
            "size": self.size,
            "precision": str(c.precision),
            "attention_scale": mup.attention_scale(c),
            "residual_multiplier": mup.residual_multiplier(c),
            "readout_multiplier": mup.readout_multiplier(c),
            "mask_ratio": MASK_RATIO,
            "gradient_clip": optim.gradient_clip,
            "weight_decay": optim.weight_decay,
            "learning_rate": optim.learning_rate,
            "unit_of_lead": UNIT_OF_LEAD.tolist(),
            "unit_of_target": UNIT_OF_TARGET.tolist(),
            "independent": list(INDEPENDENT_LEAD_INDICES),
            "threads": self.threads,
            "compile": self.compiled,
        }


class Worker:
    """A process that answers commands, on cores of its own choice of ours."""

    def __init__(self, command: list[str], threads: int, malloc: dict[str, str]):
        environment = {k: v for k, v in os.environ.items() if k != "JAX_COMPILATION_CACHE_DIR"} | malloc
        if threads:
            environment |= {name: str(threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NPROC")}
            environment["JAX_PLATFORMS"] = "cpu"
        else:
            environment["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"
        cores = sorted(os.sched_getaffinity(0))[-threads:]
        self._process = subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            preexec_fn=lambda: os.sched_setaffinity(0, cores),
        )

    def ask(self, command: str) -> dict[str, Any]:
        """The answer to a command. Raises RuntimeError when the process has ended."""
        print(command, file=self._process.stdin, flush=True)
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self._process.args} ended at {command!r} with code {self._process.wait()}")
        return json.loads(line)

    def close(self) -> None:
        """Ends the process."""
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()


def compare(setting: Setting, torch_python: str, rounds: int, budget_s: float, folder: Path) -> dict[str, Any]:
    """One row of the table. Raises RuntimeError when the two do not compute the same thing."""
    files = [str(folder / "specification.json"), str(folder / "arrays.npz")]
    Path(files[0]).write_text(json.dumps(setting.specification()))
    malloc = MALLOC if setting.keep_freed else {}
    peer = str(Path(__file__).with_name("torch_transformer.py"))
    ours = Worker([sys.executable, "-m", "benchmarks.training.train_step_worker", *files], setting.threads, malloc)
    try:
        checked = {"ours": ours.ask("check")}
        multipliers = {"multipliers": checked["ours"]["multipliers"]}
        Path(files[0]).write_text(json.dumps(setting.specification() | multipliers))
        torch = Worker([torch_python, peer, *files], setting.threads, malloc)
        try:
            checked["torch"] = torch.ask("check")
            _agree(checked, setting)
            return _row(setting, {"ours": ours, "torch": torch}, checked, rounds, budget_s)
        finally:
            torch.close()
    finally:
        ours.close()


def _agree(checked: dict[str, dict[str, Any]], setting: Setting) -> None:
    for name in ("loss", "gradient_norm"):
        a, b = checked["ours"][name], checked["torch"][name]
        if not abs(a - b) <= AGREEMENT[setting.model.precision] * abs(b):
            raise RuntimeError(f"{name} at {ladder.size_name(setting.size)}: ours {a}, PyTorch's {b}")


def _row(
    setting: Setting, workers: dict[str, Worker], checked: dict[str, Any], rounds: int, budget_s: float
) -> dict[str, Any]:
    first = {name: worker.ask("steps 1") for name, worker in workers.items()}
    # A first step compiles ours, the check has compiled PyTorch's.
    steps = {name: max(1, int(budget_s / worker.ask("steps 1")["wall_s"])) for name, worker in workers.items()}
    wall, cpu = ({name: [] for name in workers} for _ in range(2))
    for turn in range(rounds):
        for name in sorted(workers, reverse=bool(turn % 2)):
            answer = workers[name].ask(f"steps {steps[name]}")
            wall[name].append(answer["wall_s"] / steps[name])
            cpu[name].append(answer["cpu_s"] / steps[name])
    peak = max(worker.ask("products")["flops_per_s"] for worker in workers.values())
    # On one thread the processor's seconds are what a step would take were the machine ours alone.
    seconds = cpu if setting.threads == 1 else wall
    work = BATCH_RECORDS * flops.train_flops_per_record(setting.model)
    row: dict[str, Any] = {"rung": ladder.size_name(setting.size), "threads": setting.threads}
    for name in workers:
        row[f"{name}_records_per_s"] = BATCH_RECORDS / np.median(wall[name])
        row[f"{name}_best_records_per_s"] = BATCH_RECORDS / min(wall[name])
        row[f"{name}_records_per_cpu_s"] = BATCH_RECORDS / np.median(cpu[name])
        row[f"{name}_utilisation"] = work / np.median(seconds[name]) / peak
        row[f"{name}_peak_mb"] = workers[name].ask("memory")["bytes"] / 1e6
    ratios, cpu_ratios = (np.divide(s["torch"], s["ours"]) for s in (wall, cpu))
    return row | {
        "ratio": float(np.median(ratios)),
        "least_ratio": float(ratios.min()),
        "greatest_ratio": float(ratios.max()),
        "cpu_ratio": float(np.median(cpu_ratios)),
        "ours_compile_s": first["ours"]["compile_s"],
        "ours_compile_cpu_s": first["ours"]["compile_cpu_s"],
        "torch_first_s": checked["torch"]["wall_s"],
        "peak_gflops_per_s": peak / 1e9,
        "loss_difference": checked["ours"]["loss"] / checked["torch"]["loss"] - 1,
        "load_average": os.getloadavg()[0],
    }


def run(
    out: Path,
    torch_python: str,
    sizes: list[int],
    threads: list[int],
    rounds: int,
    budget_s: float,
    *,
    compiled: bool,
    keep_freed: bool,
) -> pd.DataFrame:
    """Compares at all sizes and thread counts, writes `speed.csv` and `notes.json`, and returns the table."""
    before = machine.describe()
    rows = []
    for size in sizes:
        for number in threads:
            with tempfile.TemporaryDirectory() as folder:
                setting = Setting(size, number, compiled, keep_freed)
                rows.append(compare(setting, torch_python, rounds, budget_s, Path(folder)))
            print(pd.Series(rows[-1]).to_string(), flush=True)
            write_csv(pd.DataFrame(rows), out / "speed.csv")
    version = [torch_python, "-c", "import torch; print(torch.__version__)"]
    write_json(
        before
        | {
            "pytorch": subprocess.run(version, capture_output=True, text=True, check=True).stdout.strip(),
            "pytorch_mode": "compiled" if compiled else "eager",
            "keeps_freed_memory": keep_freed,
            "rounds": rounds,
            "batch_records": BATCH_RECORDS,
            "busy": max(row["load_average"] for row in rows) > 1.5,
        },
        out / "notes.json",
    )
    return pd.DataFrame(rows)


def main() -> None:
    """Reads the options and runs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_out(parser, "train_step")
    parser.add_argument("--torch-python", default=sys.executable, help="an interpreter that has PyTorch (default: own)")
    parser.add_argument("--sizes", type=int, nargs="+", help="rungs (default: 100k, 1M, 10M; on a GPU 100M too)")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2], help="threads of a CPU (default: 1 2)")
    parser.add_argument("--rounds", type=int, default=7, help="turns of each side (default %(default)s)")
    parser.add_argument("--budget", type=float, default=3.0, help="seconds of a turn (default %(default)s)")
    parser.add_argument("--compiled", action="store_true", help="compile PyTorch's step on a CPU as well")
    parser.add_argument("--default-malloc", action="store_true", help="let glibc give freed memory back (both sides)")
    parser.add_argument("--gpu", action="store_true", help="on the GPU, in bfloat16, PyTorch compiled")
    options = parser.parse_args()
    sizes = options.sizes or [100_000, 1_000_000, 10_000_000, *([100_000_000] if options.gpu else [])]
    threads, compiled = ([0], True) if options.gpu else (options.threads, options.compiled)
    run(
        options.out,
        options.torch_python,
        sizes,
        threads,
        options.rounds,
        options.budget,
        compiled=compiled,
        keep_freed=not options.default_malloc,
    )


if __name__ == "__main__":
    main()
