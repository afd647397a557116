"""One process of `benchmarks.training.scale`: trains a few steps on 64 records of noise and says how long they took."""

from __future__ import annotations

import json
import os
import sys
import time

STEPS, BATCH_RECORDS = 8, 64


def main() -> None:
    """Prints one line of JSON."""
    number = int(os.environ.get("SCALE_PROCESS") or os.environ.get("ECG_PROCESS", "0"))
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[number % len(cores)]})  # before thread pools are sized

    from ecg_jax.distributed import launch

    launch.join()
    import jax
    import numpy as np

    from ecg_jax.aot import compile
    from ecg_jax.aot.hlo_collectives import least_bytes, received_bytes
    from ecg_jax.config import Precision
    from ecg_jax.data.ecg import LEADS
    from ecg_jax.distributed.mesh import host_slice, make_mesh, place_members, place_pack
    from ecg_jax.scaling.flops import parameters
    from ecg_jax.train import schedule
    from ecg_jax.train.step import program

    count = jax.process_count()
    config = compile.run_config(int(sys.argv[1]), BATCH_RECORDS * count, Precision.FLOAT32)
    with jax.set_mesh(make_mesh()):
        made = program(config)
        part = host_slice(config.batch_records)
        rng = np.random.default_rng(part.start)
        shape = (1, part.stop - part.start, config.model.samples, len(LEADS))
        batch = place_pack(rng.normal(0, 200, shape).astype(np.int16))
        rate = place_members(np.array([schedule.trunk_rate(config, 100)]))
        decay = place_members(np.array([config.optim.weight_decay]))
        state = made.init(np.zeros(1))
        began = time.perf_counter()
        step = made.train_step.lower(state, None, batch, rate, decay).compile()
        compile_s = time.perf_counter() - began
        for _ in range(2):
            state, metrics = step(state, None, batch, rate, decay)
        jax.block_until_ready(metrics)
        began = time.perf_counter()
        for _ in range(STEPS):
            state, metrics = step(state, None, batch, rate, decay)
            jax.block_until_ready(metrics)
        step_s = (time.perf_counter() - began) / STEPS
    total = parameters(config.model).total
    moved = sum(received_bytes(step.as_text()).values()) if count > 1 else 0
    least = least_bytes(total, 4, count)
    print(
        json.dumps(
            {"step_s": step_s, "compile_s": compile_s, "parameters": total, "moved_bytes": moved, "least_bytes": least}
        ),
        flush=True,
    )


if __name__ == "__main__":
    main()
