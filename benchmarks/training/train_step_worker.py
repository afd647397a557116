"""Our side of `benchmarks.training.train_step`: writes the shared arrays, and answers commands in JSON lines."""

from __future__ import annotations

import json
import math
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.training.train_step import BATCH_RECORDS, MASK_RATIO
from ecg_jax import objectives
from ecg_jax.config import DataConfig, Objective, Precision, RunConfig
from ecg_jax.data.ecg import LEADS, normalise
from ecg_jax.distributed.mesh import make_mesh, place_batch, place_members, place_pack
from ecg_jax.scaling import ladder, mup
from ecg_jax.train import step


class _Training:
    """Our side of the benchmark: a program, its state, and one batch. Needs a mesh in force."""

    def __init__(self, specification: dict[str, Any], arrays: Path):
        self.model = ladder.model_config(specification["size"], precision=Precision(specification["precision"]))
        run = RunConfig(
            study="benchmark",
            model=self.model,
            data=DataConfig(1.0, "noise", "none"),
            optim=ladder.optim_config(),
            budget_records=1000 * BATCH_RECORDS,
            batch_records=BATCH_RECORDS,
            mask_ratio=MASK_RATIO,
        )
        rng = np.random.default_rng(0)
        self.ecg = rng.normal(0, 200, (BATCH_RECORDS, self.model.samples, len(LEADS))).astype(np.int16)
        self.hidden = rng.random((BATCH_RECORDS, self.model.patches, 7)) < MASK_RATIO
        self.program = step.program(run)
        self.state = self.program.init(np.zeros(1))
        # A read-out of zeros would leave all but itself without a gradient to compare.
        start = step.member(self.state.params, 0)
        self.noisy = jax.tree.map(lambda p: p + 0.02 * rng.normal(size=p.shape).astype(np.float32), start)
        np.savez(arrays, batch=self.ecg, hidden=self.hidden, **_as_torch_names(self.noisy))
        self.batch = place_pack(self.ecg[None])
        rates = specification["learning_rate"], run.optim.weight_decay
        self.rate, self.decay = (place_members(np.array([x])) for x in rates)
        self.executable: Callable[..., Any] | None = None

    def steps(self, number: int) -> dict[str, Any]:
        """Takes so many steps, the first time after compiling; what they took."""
        compiled: dict[str, float] = {}
        if self.executable is None:
            began, cpu = time.perf_counter(), time.process_time()
            lowered = self.program.train_step.lower(self.state, None, self.batch, self.rate, self.decay)
            self.executable = lowered.compile()
            compiled = {"compile_s": time.perf_counter() - began, "compile_cpu_s": time.process_time() - cpu}
        began, cpu = time.perf_counter(), time.process_time()
        before = None
        for _ in range(number):
            self.state, metrics = self.executable(self.state, None, self.batch, self.rate, self.decay)
            if before is not None:  # one step late, as `train.train` does: at most two are in flight
                float(before["train/loss"][0])
            before = metrics
        loss = float(metrics["train/loss"][0])
        took = {"wall_s": time.perf_counter() - began, "cpu_s": time.process_time() - cpu, "loss": loss}
        return took | compiled

    def check(self) -> dict[str, Any]:
        """The loss, the size of its gradient, and the optimiser's multipliers, for both sides to compare."""
        task, model = objectives.of(Objective.MASKED), self.program.model
        objective = jax.jit(jax.value_and_grad(lambda p, x, h: objectives.loss(task, model, p, x, h)))
        loss, gradient = objective(self.noisy, place_batch(normalise(self.ecg)), place_batch(self.hidden))
        squares = sum(float(jnp.sum(jnp.square(leaf))) for leaf in jax.tree.leaves(gradient))
        multipliers = {
            _torch_name(path): (mup.rate_multiplier(self.model, path), mup.epsilon_multiplier(self.model, path))
            for path, _ in jax.tree.leaves_with_path(self.noisy)
        }
        return {"loss": float(loss), "gradient_norm": math.sqrt(squares), "multipliers": multipliers}


def commands(specification: dict[str, Any], arrays: Path) -> Callable[[list[str]], dict[str, Any]]:
    """The answering function of a specification, with its arrays written to `arrays`. Needs a mesh in force."""
    training = _Training(specification, arrays)

    def answer(command: list[str]) -> dict[str, Any]:
        match command:
            case ["check"]:
                return training.check()
            case ["steps", number]:
                return training.steps(int(number))
            case ["memory"]:
                peak = (jax.local_devices()[0].memory_stats() or {}).get("peak_bytes_in_use")
                return {"bytes": peak or 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss}
            case ["products"]:
                return {"flops_per_s": _products(training.model.precision)}
        raise ValueError(f"unknown command: {command}")

    return answer


def _as_torch_names(params: Any) -> dict[str, np.ndarray]:
    """The parameters under the names, and transposed to the layout, that PyTorch's modules have."""
    arrays = {}
    for path, leaf in jax.tree.leaves_with_path(params):
        value = np.asarray(leaf)
        arrays[_torch_name(path)] = value.T if path[-1].key == "kernel" else value
    return arrays


def _torch_name(path: tuple[Any, ...]) -> str:
    names = [str(key.key) for key in path]
    return ".".join([*names[:-1], "weight" if names[-1] in ("kernel", "scale") else names[-1]])


def _products(precision: Precision) -> float:
    """The best rate of one square matrix product, FLOP/s."""
    gpu = jax.default_backend() == "gpu"
    size = 8192 if gpu else 512
    a = jnp.ones((size, size), jnp.bfloat16 if precision is Precision.BFLOAT16 else jnp.float32)
    product = jax.jit(lambda a: a @ a)
    seconds = []
    for _ in range(20 if gpu else 200):
        began = time.perf_counter()
        jax.block_until_ready(product(a))
        seconds.append(time.perf_counter() - began)
    return 2 * size**3 / min(seconds)


def main() -> None:
    """Answers one command a line until the input ends."""
    with jax.set_mesh(make_mesh(jax.devices()[:1])):
        answer = commands(json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2]))
        for line in sys.stdin:
            print(json.dumps(answer(line.split())), flush=True)


if __name__ == "__main__":
    main()
