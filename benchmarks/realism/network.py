"""A small one-dimensional convolutional network in Flax NNX, for telling real from synthetic and for superclasses."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from ecg_jax.data.ecg import INDEPENDENT_LEAD_INDICES


@dataclasses.dataclass(frozen=True)
class Training:
    """How a network is trained: so many AdamW steps with a cosine decay; each batch is shifted in time at random.

    Steps, not epochs, so that one compiled step serves sets of any size."""

    steps: int = 350
    batch: int = 32
    learning_rate: float = 3e-3
    weight_decay: float = 0.02


class Network(nnx.Module):
    """Four strided convolutions, mean and maximum over time, a linear read-out."""

    WIDTHS = (16, 32, 32, 48)
    LENGTHS = (9, 7, 7, 5)
    STRIDES = (4, 2, 2, 2)

    def __init__(self, outputs: int, rngs: nnx.Rngs):
        widths = (len(INDEPENDENT_LEAD_INDICES), *self.WIDTHS)
        self.convolutions = nnx.List(
            [
                nnx.Conv(a, b, (length,), strides=(stride,), rngs=rngs)
                for a, b, length, stride in zip(widths[:-1], widths[1:], self.LENGTHS, self.STRIDES, strict=True)
            ]
        )
        self.norms = nnx.List([nnx.LayerNorm(width, rngs=rngs) for width in self.WIDTHS])
        self.read_out = nnx.Linear(2 * self.WIDTHS[-1], outputs, rngs=rngs)

    def __call__(self, x_BxSxC: jax.Array) -> jax.Array:
        """Logits `(B, outputs)` of z-scored records `(B, samples, 8)`."""
        x = x_BxSxC
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            x = nnx.gelu(norm(convolution(x)))
        return self.read_out(jnp.concatenate([x.mean(1), x.max(1)], -1))


@functools.cache
def _step(outputs: int) -> Callable[..., None]:
    """One compiled training step for networks of so many outputs."""

    @nnx.jit
    def step(network: Network, optimiser: nnx.Optimizer, x: jax.Array, y: jax.Array) -> None:
        def loss(network: Network) -> jax.Array:
            return optax.sigmoid_binary_cross_entropy(network(x), y).mean()

        optimiser.update(network, nnx.grad(loss)(network))

    return step


@functools.cache
def _update_rule(training: Training) -> optax.GradientTransformation:
    """Cached, because each new object would have the training step compiled again."""
    schedule = optax.cosine_decay_schedule(training.learning_rate, training.steps)
    return optax.adamw(schedule, weight_decay=training.weight_decay)


_apply = nnx.jit(lambda network, x: network(x))


def train_and_score(
    z_train: np.ndarray, y_train: np.ndarray, z_test: np.ndarray, seed: int, training: Training
) -> np.ndarray:
    """Trains on z-scored 12-lead records and 0/1 labels `(N, outputs)`; returns logits of the test records."""
    rng = np.random.default_rng(seed)
    x_train, x_test = (np.ascontiguousarray(z[..., INDEPENDENT_LEAD_INDICES]) for z in (z_train, z_test))
    batch, drawn = training.batch, training.steps * training.batch
    network = Network(y_train.shape[1], nnx.Rngs(seed))
    optimiser = nnx.Optimizer(network, _update_rule(training), wrt=nnx.Param)
    step = _step(y_train.shape[1])
    epochs = [rng.permutation(len(x_train)) for _ in range(-(-drawn // len(x_train)))]
    for rows in np.concatenate(epochs)[:drawn].reshape(training.steps, batch):
        shift = int(rng.integers(x_train.shape[1]))
        step(network, optimiser, np.roll(x_train[rows], shift, 1), y_train[rows].astype(np.float32))
    # Whole batches only, so that one program serves: the last is filled up and cut again.
    padded = np.concatenate([x_test, np.zeros((-len(x_test) % batch, *x_test.shape[1:]), x_test.dtype)])
    logits = [np.asarray(_apply(network, padded[i : i + batch])) for i in range(0, len(padded), batch)]
    return np.concatenate(logits)[: len(x_test)]
