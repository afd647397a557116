"""The preprocessing matrix as a product that costs a quarter: a banded part and a part of low rank.

A zero-phase band-pass from 0.5 to 40 Hz is a short low-pass less everything below about 3 Hz. The short filter is a
band; what it leaves is so slow that a hundred components hold it, the filter's behaviour at the ends included.
"""

from __future__ import annotations

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np

from ecg_jax.data.preprocess import chain_matrix

#: The short filter: equal to the chain above the crossover, flat below it, cut where it has died out.
CROSSOVER_HZ, CROSSOVER_WIDTH_HZ = 3.0, 0.5
REACH_S = 0.2
#: Singular values of the slow part below this are left out: for records of 1 mV a difference of about 1e-5 mV.
TOLERANCE = 3e-5
#: Components tried first; twice as many where they do not suffice.
FIRST_COMPONENTS = 200
#: Length of the pieces in which the banded part is applied.
PIECE_S = 0.5


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class FactoredChain:
    """A preprocessing matrix as `local - up @ down`, the local part in pieces of the output.

    `starts` says at which input sample the columns of each piece begin.
    """

    local: np.ndarray | jax.Array  # (pieces, columns, rows)
    down: np.ndarray | jax.Array  # (samples_in, rank)
    up: np.ndarray | jax.Array  # (rank, samples_out)
    starts: tuple[int, ...] = dataclasses.field(metadata={"static": True})

    def __call__(self, x_NxS: jax.Array) -> jax.Array:
        """Filters and resamples rows `(N, samples_in)`: `(N, samples_out)`, in the unit given."""
        columns = self.local.shape[1]
        pieces = jnp.stack([x_NxS[:, start : start + columns] for start in self.starts])
        with jax.default_matmul_precision("highest"):  # accelerators multiply in fewer digits otherwise
            # In this order of axes the product is one per piece, whose rounding depends on no number of threads.
            fast = jnp.einsum("pnc,pcr->pnr", pieces, self.local)
            slow = (x_NxS @ self.down) @ self.up
        return jnp.swapaxes(fast, 0, 1).reshape(len(x_NxS), -1) - slow


@functools.lru_cache(maxsize=4)
def factored_chain(seconds: int, rate_in_hz: int, rate_out_hz: int, guard_samples: int = 0) -> FactoredChain:
    """`chain_matrix` of the same arguments, factored; NumPy arrays, cached. Raises ValueError as it does.

    `seconds` must leave the short filter room: at least 2.
    """
    if seconds < 2:
        raise ValueError(f"seconds is {seconds}: a factored chain needs at least 2 s; take chain_matrix")
    chain = chain_matrix(seconds, rate_in_hz, rate_out_hz, guard_samples).astype(np.float64)
    distance_s = np.arange(len(chain))[:, None] / rate_out_hz
    distance_s = distance_s - (np.arange(chain.shape[1]) - guard_samples) / rate_in_hz
    short = _short_filter(chain, distance_s, rate_in_hz, rate_out_hz)
    up, down = _low_rank(short - chain)
    pieces = round(seconds / PIECE_S)
    rows, columns = len(chain) // pieces, math.ceil((PIECE_S + 2 * REACH_S) * rate_in_hz)
    first = [math.floor((piece * PIECE_S - REACH_S) * rate_in_hz) + guard_samples for piece in range(pieces)]
    starts = tuple(min(max(start, 0), chain.shape[1] - columns) for start in first)
    local = [short[i * rows : (i + 1) * rows, start : start + columns].T for i, start in enumerate(starts)]
    return FactoredChain(np.stack(local).astype(np.float32), down, up, starts)


def _low_rank(slow: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """`up` and `down` with `slow = (down @ up).T`, by a randomised range finder (Halko, Martinsson & Tropp 2011)."""
    components = FIRST_COMPONENTS
    while True:
        components = min(components, *slow.shape)
        probes = np.random.Generator(np.random.Philox(0)).standard_normal((slow.shape[1], components))
        basis = np.linalg.qr(slow @ probes)[0]
        basis = np.linalg.qr(slow @ (slow.T @ basis))[0]
        left, singular, right = np.linalg.svd(basis.T @ slow, full_matrices=False)
        if singular[-1] <= TOLERANCE or components == min(slow.shape):
            break
        components *= 2
    kept = singular > TOLERANCE
    up = (basis @ (left[:, kept] * singular[kept])).T
    return np.ascontiguousarray(up, np.float32), np.ascontiguousarray(right[kept].T, np.float32)


def _short_filter(chain: np.ndarray, distance_s: np.ndarray, rate_in_hz: int, rate_out_hz: int) -> np.ndarray:
    """The short filter as a banded matrix: a middle row of each phase of the resampling, shifted along the diagonal."""
    samples_out, samples_in = chain.shape
    common = math.gcd(rate_in_hz, rate_out_hz)
    phases, step = rate_out_hz // common, rate_in_hz // common
    frequency_hz = np.fft.rfftfreq(samples_in, 1 / rate_in_hz)
    weight = 0.5 * (1 + np.tanh((frequency_hz - CROSSOVER_HZ) / CROSSOVER_WIDTH_HZ))
    flat = (frequency_hz > CROSSOVER_HZ) & (frequency_hz < CROSSOVER_HZ + 2)
    short = np.zeros_like(chain)
    middle = samples_out // 2 // phases * phases
    for phase in range(phases):
        row = middle + phase
        shift = np.exp(-2j * np.pi * frequency_hz * distance_s[row, 0])
        response = (np.fft.rfft(chain[row]) / shift).real
        response = weight * response + (1 - weight) * response[flat].mean()
        kernel = np.fft.irfft(response * shift, samples_in)
        for other in range(phase, samples_out, phases):
            near = np.flatnonzero(np.abs(distance_s[other]) <= REACH_S)
            short[other, near] = kernel[(near - (other - row) // phases * step) % samples_in]
    return short
