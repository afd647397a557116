import itertools

import jax
import numpy as np
import pytest
from pools import made_up_pool
from test_config import make_config

from ecg_jax import optim
from ecg_jax.data.mixture import batches
from ecg_jax.train import DivergedError, program, train
from ecg_jax.trunk import curve_steps, mixture_of

SYNTHETIC, REAL = made_up_pool(1200, 1), made_up_pool(20, 2)


def stream(config, steps):
    return batches(mixture_of(config, REAL), SYNTHETIC, [REAL], steps)


def test_rates_rise_hold_and_fall_to_almost_nothing():
    config = make_config(**{"optim.warmup_records": 128, "budget_records": 1024})  # 4 of 32 steps
    rates = [optim.branch_rate(config, step) for step in range(config.budget_steps)]
    peak = config.optim.learning_rate
    assert rates[:4] == pytest.approx([peak / 4, peak / 2, 3 * peak / 4, peak])
    assert rates[: config.branch_step] == [optim.trunk_rate(config, step) for step in range(config.branch_step)]
    assert set(rates[4 : config.branch_step]) == {peak}
    falling = rates[config.branch_step - 1 :]
    assert all(a > b for a, b in itertools.pairwise(falling)) and 0 < falling[-1] < 0.15 * peak


def test_the_loss_falls_and_the_step_counts(mesh):
    config = make_config(**{"optim.learning_rate": 5e-3})
    p, losses = program(config), []
    state = train(
        p,
        p.init(0),
        stream(config, range(30)),
        lambda step: optim.trunk_rate(config, step),
        on_step=lambda step, metrics: losses.append((step, metrics["train/loss"])),
    )
    assert [step for step, _ in losses] == list(range(30)) and int(state.step) == 30
    assert np.mean([loss for _, loss in losses[-5:]]) < 0.8 * losses[0][1]


def test_a_branch_equals_the_run_that_had_its_budget_from_the_start(mesh):
    config = make_config(budget_records=512)
    p = program(config)
    trunk = train(p, p.init(0), stream(config, range(config.branch_step)), lambda s: optim.trunk_rate(config, s))
    rest = range(config.branch_step, config.budget_steps)
    branch = train(p, trunk, stream(config, rest), lambda s: optim.branch_rate(config, s))
    direct = train(p, p.init(0), stream(config, range(config.budget_steps)), lambda s: optim.branch_rate(config, s))
    jax.tree.map(np.testing.assert_array_equal, branch.params, direct.params)


def test_runs_of_one_shape_share_one_program(mesh):
    config = make_config()
    other = make_config(**{"seed": 5, "data.real_fraction": 1.0, "optim.learning_rate": 1e-4, "budget_records": 2048})
    assert program(config) is program(other)
    assert program(config) is not program(make_config(mask_ratio=0.5))
    assert program(config) is not program(make_config(**{"optim.weight_decay": 0.5}))


def test_seeds_change_weights_and_masks(mesh):
    config = make_config()
    p = program(config)
    losses = []
    for seed in (0, 1):
        heard = train(p, p.init(seed), stream(config, range(1)), lambda s: 0.0, on_step=lambda s, m: losses.append(m))
        assert int(heard.step) == 1
    assert losses[0]["train/loss"] != losses[1]["train/loss"]


def test_divergence_names_its_step(mesh):
    config = make_config()
    p = program(config)
    rate = {3: float("nan")}
    with pytest.raises(DivergedError, match="became nan at step 4"):
        train(p, p.init(0), stream(config, range(10)), lambda step: rate.get(step, 1e-3))


def test_the_curve_grid_depends_on_no_budget():
    assert curve_steps(1000) == [step for step in curve_steps(10_000) if step <= 1000]


def test_decay_acts_on_matrices_only(mesh):
    config = make_config(**{"optim.weight_decay": 0.5})
    p = program(config)
    params = p.init(0).params
    chain = optim.optimiser(config.optim, config.model)
    zeros = jax.tree.map(np.zeros_like, params)
    updates = jax.jit(lambda p: chain.update(zeros, chain.init(p), p)[0])(params)
    assert not np.any(updates["norm"]["scale"])
    np.testing.assert_allclose(
        updates["embed"]["project"]["kernel"], 0.5 * params["embed"]["project"]["kernel"], rtol=1e-6
    )
