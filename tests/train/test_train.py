import itertools

import jax
import numpy as np
import pytest
from support.configs import make_config
from support.run_packs import trained
from support.synthetic_pools import made_up_pool

from ecg_jax.store.curve import curve_steps
from ecg_jax.train import optimizer, schedule
from ecg_jax.train.step import member, program
from ecg_jax.train.training_data import TrainingData

DATA = TrainingData(made_up_pool(20, 2), {"b": made_up_pool(1200, 1)})


def test_rates_rise_hold_and_fall_to_almost_nothing():
    config = make_config(**{"optim.warmup_records": 128, "budget_records": 1024})  # 4 of 32 steps
    rates = [schedule.branch_rate(config, step) for step in range(config.budget_steps)]
    peak = config.optim.learning_rate
    assert rates[:4] == pytest.approx([peak / 4, peak / 2, 3 * peak / 4, peak])
    assert rates[: config.branch_step] == [schedule.trunk_rate(config, step) for step in range(config.branch_step)]
    assert set(rates[4 : config.branch_step]) == {peak}
    falling = rates[config.branch_step - 1 :]
    assert all(a > b for a, b in itertools.pairwise(falling)) and 0 < falling[-1] < 0.15 * peak


def test_the_loss_falls_and_the_step_counts(mesh):
    _, state, losses = trained([make_config(**{"optim.learning_rate": 5e-3})], DATA, range(30))
    assert losses.shape == (30, 1) and int(state.step[0]) == 30
    assert losses[-5:].mean() < 0.8 * losses[0, 0]


def test_a_branch_equals_the_run_that_had_its_budget_from_the_start(mesh):
    config = make_config(budget_records=512)
    _, trunk, _ = trained([config], DATA, range(config.branch_step))
    rest = range(config.branch_step, config.budget_steps)
    _, branch, _ = trained([config], DATA, rest, state=trunk, rate=schedule.branch_rate)
    _, direct, _ = trained([config], DATA, range(config.budget_steps), rate=schedule.branch_rate)
    jax.tree.map(np.testing.assert_array_equal, branch.params, direct.params)


def test_runs_of_one_shape_share_one_program(mesh):
    config = make_config()
    other = make_config(
        **{
            "seed": 5,
            "data.real_fraction": 1.0,
            "optim.learning_rate": 1e-4,
            "optim.weight_decay": 0.5,
            "budget_records": 2048,
        }
    )
    assert program(config) is program(other)
    assert program(config) is not program(make_config(mask_ratio=0.5))


def finite(**changes):
    """A run on the made-up synthetic pool, which ends."""
    return make_config(**{"data.synthetic_records": 1200} | changes)


def test_seeds_change_weights_and_masks(mesh):
    _, _, losses = trained([finite(), finite(seed=1)], DATA, range(1))
    assert losses[0, 0] != losses[0, 1]


MEMBERS = [
    finite(**{"optim.learning_rate": 5e-3}),
    finite(**{"optim.learning_rate": 2e-3, "seed": 1, "data.real_fraction": 1.0, "optim.weight_decay": 0.5}),
    finite(**{"optim.learning_rate": 5e-3, "seed": 2, "data.real_fraction": 0.0}),
    finite(**{"optim.learning_rate": 5e-3, "data.real_patients": 5, "data.pool_shuffle": 3}),
]


def test_a_pack_is_its_members(mesh):
    """The same losses over 50 steps as each run by itself."""
    _, state, packed = trained(MEMBERS, DATA, range(50))
    assert len({tuple(column) for column in packed.T}) == len(MEMBERS)
    assert all("member" in str(leaf.sharding.spec) for leaf in jax.tree.leaves(state))
    for k in (1, 3):
        _, alone, solo = trained([MEMBERS[k]], DATA, range(50))
        np.testing.assert_allclose(packed[:, k], solo[:, 0], rtol=1e-5)
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=0.02, atol=2e-3),
            member(state.params, k),
            member(alone.params, 0),
        )


def test_a_member_that_diverges_leaves_the_others_alone(mesh):
    def rate(config, step):
        return float("nan") if config.seed == 1 and step == 3 else schedule.trunk_rate(config, step)

    _, _, undisturbed = trained(MEMBERS, DATA, range(8))
    _, _, losses = trained(MEMBERS, DATA, range(8), rate=rate)
    assert np.isnan(losses[4:, 1]).all() and np.isfinite(losses[:4]).all()
    np.testing.assert_array_equal(losses[:, [0, 2, 3]], undisturbed[:, [0, 2, 3]])


def test_the_curve_grid_depends_on_no_budget():
    assert curve_steps(1000) == [step for step in curve_steps(10_000) if step <= 1000]


def test_decay_acts_on_matrices_only(mesh):
    params = jax.tree.map(lambda leaf: leaf[0], program(make_config()).init(np.zeros(1)).params)
    decayed = optimizer.apply_updates(params, jax.tree.map(np.zeros_like, params), 0.1, 0.5)
    np.testing.assert_array_equal(decayed["norm"]["scale"], params["norm"]["scale"])
    kernel = params["embed"]["project"]["kernel"]
    np.testing.assert_allclose(decayed["embed"]["project"]["kernel"], 0.95 * kernel, rtol=1e-6)
