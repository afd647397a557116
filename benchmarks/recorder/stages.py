"""The stages of both versions' recorders as compiled functions of a batch of draws."""

from __future__ import annotations

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

from ecg_jax.data.synthetic.physiology.leads import twelve_leads
from ecg_jax.data.synthetic.physiology.sampling import Grid
from ecg_jax.data.synthetic.recorder import acquisition
from ecg_jax.data.synthetic.recorder import electrode_noise as version_3
from ecg_jax.data.synthetic.recorder import noise as version_2
from ecg_jax.data.synthetic.recorder.acquisition import Acquisition, Settings
from ecg_jax.data.synthetic.recorder.devices import Recorder, recorded, sample_recorder
from ecg_jax.data.synthetic.variability import Breathing, sample_breath


@dataclasses.dataclass(frozen=True)
class Draws:
    """What a batch of B recordings is made from."""

    noise_rows: np.ndarray  # (B, 128)
    words: np.ndarray  # (B, 2) uint32
    settings: Settings
    settings_2: Settings
    breath_BxS: np.ndarray


def draws(records: int, grid: Grid, seed: int = 0) -> Draws:
    """Draws of `records` recordings with the devices, faults and breaths of the defaults."""
    rng = np.random.default_rng(seed)
    rows, device_rows = (rng.random((records, 128)).astype(np.float32) for _ in range(2))
    breath_rows = rng.random((records, 4)).astype(np.float32)
    time_s = grid.time_s()
    breath = jax.vmap(lambda row: sample_breath(row, Breathing()).at(time_s))(breath_rows)
    settings = jax.vmap(functools.partial(sample_recorder, recorder=Recorder()))(device_rows)
    old = jax.vmap(functools.partial(acquisition.sample_acquisition, acquisition=Acquisition()))(device_rows)
    words = rng.integers(0, 2**32, (records, 2), dtype=np.uint32)
    return Draws(rows, words, settings, old, np.asarray(breath))


@functools.partial(jax.jit, static_argnames="grid")
def white_2(words: jax.Array, grid: Grid) -> jax.Array:
    """Version 2's white noise."""
    return version_2.white_noise(words, grid.sample_rate_hz, grid.seconds, grid.guard_samples)


@functools.partial(jax.jit, static_argnames="grid")
def noise_2(rows: jax.Array, words: jax.Array, white: jax.Array, settings: Settings, grid: Grid) -> jax.Array:
    """Version 2's noise at the electrodes, `(B, 9, samples)`; its breath has no part in this."""
    one = functools.partial(
        version_2.sample_noise,
        noise=version_2.Noise(),
        sample_rate_hz=grid.sample_rate_hz,
        seconds=grid.seconds,
        guard_samples=grid.guard_samples,
    )
    return jax.vmap(lambda r, w, white, s: one(r, w, white, jnp.float32(1.0), jnp.float32(0.27), s))(
        rows, words, white, settings
    )


@functools.partial(jax.jit, static_argnames="grid")
def slow_leads_3(rows: jax.Array, words: jax.Array, breath: jax.Array, settings: Settings, grid: Grid) -> jax.Array:
    """Version 3's slow noise in leads I, II, V1–V6."""

    def one(row: jax.Array, words: jax.Array, breath: jax.Array, settings: Settings) -> jax.Array:
        to_leads = acquisition.noise_to_leads(settings)
        return version_3.slow_noise(row, words, breath, settings, version_3.ElectrodeNoise(), grid, to_leads)

    with jax.default_matmul_precision("highest"):
        return jax.vmap(one)(rows, words, breath, settings)


white_3 = jax.jit(version_3.white_noise, static_argnames="grid")


@functools.partial(jax.jit, static_argnames="grid")
def slow_3(rows: jax.Array, words: jax.Array, breath: jax.Array, settings: Settings, grid: Grid) -> jax.Array:
    """Version 3's slow noise at the electrodes."""
    one = functools.partial(version_3.slow_noise, noise=version_3.ElectrodeNoise(), grid=grid)
    return jax.vmap(one)(rows, words, breath, settings)


@functools.partial(jax.jit, static_argnames="grid")
def fast_3(rows: jax.Array, words: jax.Array, white: jax.Array, settings: Settings, grid: Grid) -> jax.Array:
    """Version 3's fast noise at the electrodes."""
    one = functools.partial(version_3.fast_noise, noise=version_3.ElectrodeNoise(), grid=grid)
    return jax.vmap(one)(rows, words, white, settings)


@functools.partial(jax.jit, static_argnames="grid")
def written_2(leads: jax.Array, settings: Settings, grid: Grid) -> jax.Array:
    """What version 2 writes of leads `(B, 8, samples)`: eight rounded, four derived, `(B, samples, 12)`."""

    def one(leads: jax.Array, settings: Settings) -> jax.Array:
        slow = acquisition.high_passed(leads, settings.highpass_hz, grid.sample_rate_hz)
        return twelve_leads(acquisition.quantised(slow, settings).T)

    return jax.vmap(one)(leads, settings)


@functools.partial(jax.jit, static_argnames="grid")
def written_3(leads: jax.Array, settings: Settings, grid: Grid) -> jax.Array:
    """What version 3 writes: twelve leads, each rounded by itself."""
    return jax.vmap(functools.partial(recorded, sample_rate_hz=grid.sample_rate_hz))(leads, settings)


@jax.jit
def to_leads(noise_mv: jax.Array, settings: Settings) -> jax.Array:
    """Noise at the electrodes as leads I, II, V1–V6 `(B, 8, samples)`."""
    with jax.default_matmul_precision("highest"):
        return jax.vmap(lambda noise, s: acquisition.noise_to_leads(s) @ noise)(noise_mv, settings)


def whole_2(drawn: Draws, leads: jax.Array, grid: Grid) -> jax.Array:
    """A batch of clean leads with version 2's noise, as its recorder writes it."""
    noise = noise_2(drawn.noise_rows, drawn.words, white_2(drawn.words, grid), drawn.settings_2, grid)
    return written_2(leads + to_leads(noise, drawn.settings_2), drawn.settings_2, grid)


def whole_3(drawn: Draws, leads: jax.Array, grid: Grid) -> jax.Array:
    """The same of version 3."""
    settings = drawn.settings
    slow = slow_leads_3(drawn.noise_rows, drawn.words, drawn.breath_BxS, settings, grid)
    fast = fast_3(drawn.noise_rows, drawn.words, white_3(drawn.words, grid), settings, grid)
    return written_3(leads + slow + to_leads(fast, settings), settings, grid)
