import jax
import numpy as np
import pytest

from ecg_jax.data.factored import factored_chain
from ecg_jax.data.preprocess import chain_matrix
from ecg_jax.data.synthetic import Tier, recipe, render


@pytest.mark.parametrize(
    ("rate_in_hz", "rate_out_hz", "guard_samples"), [(250, 100, 10), (250, 250, 10), (500, 100, 0)]
)
def test_it_is_the_chain_to_a_tenth_of_a_count(rate_in_hz: int, rate_out_hz: int, guard_samples: int) -> None:
    seconds = 10
    chain = chain_matrix(seconds, rate_in_hz, rate_out_hz, guard_samples)
    factored = factored_chain(seconds, rate_in_hz, rate_out_hz, guard_samples)
    ecg = render(5, np.arange(32), recipe(Tier.ANATOMY), rate_in_hz)[:, :, 1]
    x_NxS = np.pad(ecg, ((0, 0), (guard_samples, guard_samples)), "edge")
    expected = x_NxS @ chain.T
    found = np.asarray(jax.jit(lambda chain, x: chain(x))(factored, x_NxS))
    assert np.abs(found - expected).max() < 1e-4 and np.abs(expected).max() > 0.5
    # And it is worth having: fewer multiplications by half.
    pieces, columns, rows = factored.local.shape
    assert pieces * columns * rows + factored.down.size + factored.up.size < chain.size / 2


def test_a_length_too_short_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 2 s"):
        factored_chain(1, 250, 100)
