"""Training and doing packs in tests."""

import numpy as np

from ecg_jax.files.lease import acquire
from ecg_jax.study.hooks import Hooks
from ecg_jax.study.packing import plan
from ecg_jax.study.run_pack import run_pack
from ecg_jax.train import schedule
from ecg_jax.train.input_pipeline import Placement, feed_of
from ecg_jax.train.loop import train
from ecg_jax.train.step import program


def do(store, targets, data, response, *, size=1, placement=Placement.HOST, **hooks):
    """Every run of the targets, in packs of `size` as far as shapes allow."""
    for pack in plan(store, targets, lambda config: size):
        with acquire(store.pack(pack.pack_id)) as owner:
            run_pack(store, pack, data, response, owner, placement=placement, hooks=Hooks(**hooks))


def trained(configs, data, steps, *, state=None, rate=schedule.trunk_rate, placement=Placement.HOST):
    """A pack of one run per config after `steps`: its program, its state, and losses `(steps, K)`."""
    feed = feed_of(configs, data, placement)
    made, losses = program(configs[0], feed.read), []
    state = train(
        made,
        made.init(np.array([config.seed for config in configs])) if state is None else state,
        feed.batches(steps),
        lambda step: np.array([rate(config, step) for config in configs]),
        np.array([config.optim.weight_decay for config in configs]),
        resident=feed.resident,
        on_step=lambda finished: losses.append(finished.losses),
    )
    return made, state, np.array(losses)
