"""Rendering inside a training step on an accelerator: records per second, and the share of a step that it takes."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd

from ecg_jax.config import DataConfig, RunConfig
from ecg_jax.data.factored import factored_chain
from ecg_jax.data.synthetic.physiology.sampling import Grid
from ecg_jax.data.synthetic.render import generator
from ecg_jax.data.synthetic.render.source import GUARD_SAMPLES, RENDER_RATE_HZ, index_keys
from ecg_jax.data.synthetic.render.tiers import Recipe, Tier, recipe
from ecg_jax.distributed.mesh import make_mesh, place_members, place_pack
from ecg_jax.scaling import ladder
from ecg_jax.train.step import program

BATCHES = (1024, 2048, 4096, 8192, 16384)
TIERS = (Tier.ANATOMY, Tier.CONDITIONS, Tier.ACQUISITION)
SECONDS, RATE_HZ = 10, 100
#: Records of a training step: the activations of more would not fit beside its weights.
STEP_RECORDS = 1024


def measure(
    batches: Sequence[int] = BATCHES,
    tiers: Sequence[Tier] = TIERS,
    size: int = 10_000_000,
    repeats: int = 20,
    progress: Callable[[str], None] = lambda line: None,
) -> pd.DataFrame:
    """One row per tier and batch on the default device.

    `records_per_s` is of rendering at 100 Hz; `filtered_per_s` of rendering at 250 Hz, filtering and resampling to
    100 Hz, which is what the host's placement gives. `share` and `filtered_share` are the parts that they take of a
    step that renders its records and trains the rung of `size` parameters on them.
    """
    rows = []
    step_records = min(STEP_RECORDS, min(batches))
    step_s_per_record = _step_seconds(step_records, size, repeats) / step_records
    for batch in batches:
        step_s = batch * step_s_per_record
        for tier in tiers:
            direct_s, compile_s = _seconds(functools.partial(_rendered, made_by=recipe(tier)), batch, repeats)
            filtered_s, _ = _seconds(functools.partial(_filtered, made_by=recipe(tier)), batch, repeats)
            rows.append(
                {
                    "tier": tier.value,
                    "batch": batch,
                    "records_per_s": batch / direct_s,
                    "filtered_per_s": batch / filtered_s,
                    "compile_s": compile_s,
                    "step_us_per_record": 1e6 * step_s_per_record,
                    "share": direct_s / (direct_s + step_s),
                    "filtered_share": filtered_s / (filtered_s + step_s),
                }
            )
            progress(f"{tier.value}, batch {batch}: {batch / direct_s:,.0f} records per second")
    return pd.DataFrame(rows)


def _rendered(indices: jax.Array, made_by: Recipe) -> jax.Array:
    """The leads I, II, V1–V6 at 100 Hz of the records at uint32 `indices`."""
    keys = index_keys(jnp.uint32(0), jnp.zeros_like(indices), indices)
    return generator.synthesise(*keys, made_by, None, Grid(RATE_HZ, SECONDS))


def _filtered(indices: jax.Array, made_by: Recipe) -> jax.Array:
    keys = index_keys(jnp.uint32(0), jnp.zeros_like(indices), indices)
    leads = generator.synthesise(*keys, made_by, None, Grid(RENDER_RATE_HZ, SECONDS, GUARD_SAMPLES))
    chain = factored_chain(SECONDS, RENDER_RATE_HZ, RATE_HZ, GUARD_SAMPLES)
    return chain(leads.reshape(-1, leads.shape[-1])).reshape(*leads.shape[:2], -1)


def _seconds(work: Callable[[jax.Array], jax.Array], batch: int, repeats: int) -> tuple[float, float]:
    """Seconds of a call (mean over `repeats` in flight together), and of the first, which compiles."""
    compiled = jax.jit(work)
    began = time.perf_counter()
    jax.block_until_ready(compiled(jnp.arange(batch, dtype=jnp.uint32)))
    compile_s = time.perf_counter() - began
    indices = [jnp.arange(batch, dtype=jnp.uint32) + jnp.uint32(batch * turn) for turn in range(repeats)]
    jax.block_until_ready(indices)
    began = time.perf_counter()
    for chosen in indices:
        result = compiled(chosen)
    jax.block_until_ready(result)
    return (time.perf_counter() - began) / repeats, compile_s


def _step_seconds(batch: int, size: int, repeats: int) -> float:
    """Seconds of a training step of the rung of `size` on records that lie on the device already."""
    model = ladder.model_config(size)
    config = RunConfig(
        study="benchmark",
        model=model,
        data=DataConfig(0.0, "none", "synthetic"),
        optim=ladder.optim_config(),
        budget_records=100 * batch,
        batch_records=batch,
    )
    counts = np.random.default_rng(0).integers(-1000, 1000, (batch, RATE_HZ * SECONDS, 12)).astype(np.int16)
    with jax.set_mesh(make_mesh(jax.devices()[:1])):
        run = program(config)
        state, records = run.init(np.zeros(1)), place_pack(counts[None])
        rate = place_members(np.array([1e-4]))
        state, metrics = run.train_step(state, None, records, rate, rate)
        jax.block_until_ready(metrics)
        began = time.perf_counter()
        for _ in range(repeats):
            state, metrics = run.train_step(state, None, records, rate, rate)
        jax.block_until_ready(metrics)
        return (time.perf_counter() - began) / repeats
