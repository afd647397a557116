import pytest

from ecg_jax.scaling.time_left import Estimate, Rate, estimate, nearest_rate

RATES = {100: 10.0, 1_000: 50.0}


def test_a_size_has_its_own_rate_or_that_of_the_next_smaller_one():
    assert nearest_rate(RATES, 1_000) == Rate(50.0, 1_000)
    assert nearest_rate(RATES, 999) == Rate(10.0, 100)
    assert nearest_rate(RATES, 10**6) == Rate(50.0, 1_000)
    assert nearest_rate(RATES, 5) == Rate(10.0, 100)  # nothing smaller was seen
    assert nearest_rate({}, 5) is None


def test_work_of_several_sizes_adds_up_and_says_what_was_borrowed():
    assert estimate([(100, 20.0), (1_000, 100.0)], RATES) == Estimate(4.0, at_most=False)
    assert estimate([(100, 20.0), (500, 100.0)], RATES) == Estimate(pytest.approx(12.0), at_most=True)
    assert estimate([], {}) == Estimate(0.0, at_most=False)
    assert estimate([(100, 1.0)], {}) is None
