import subprocess
import sys

import jax
import numpy as np
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from ecg_jax import ladder, models
from ecg_jax.config import Position
from ecg_jax.flops import forward_flops_per_record, parameters, train_flops_per_record


@pytest.mark.parametrize("size", ladder.RUNGS)
def test_rungs_hold_what_they_say(size, mesh):
    config = ladder.model_config(size)
    counts = parameters(config)
    assert abs(counts.blocks / size - 1) < 0.10
    assert config.width >= 48 or size < 30_000
    tree = jax.eval_shape(models.build(config).init, jax.random.key(0))
    assert sum(leaf.size for leaf in jax.tree.leaves(tree)) == counts.total
    assert sum(leaf.size for leaf in jax.tree.leaves(tree["blocks"])) == counts.blocks
    assert tree["embed"]["project"]["kernel"].size == counts.embedding
    assert tree["embed"]["position"].size == counts.position


def test_sizes_grow_along_the_ladder():
    counts = [parameters(ladder.model_config(size)).blocks for size in ladder.RUNGS]
    flops = [train_flops_per_record(ladder.model_config(size)) for size in ladder.RUNGS]
    assert counts == sorted(set(counts)) and flops == sorted(set(flops))


def test_flops_agree_with_the_compiler(mesh):
    """XLA counts element-wise work too, which shrinks beside the matrix products as width grows."""
    config = ladder.model_config(1_000_000)
    model = models.build(config)
    params = jax.eval_shape(model.init, jax.random.key(0))
    sharding = NamedSharding(jax.sharding.get_mesh(), P("data"))
    ecg = jax.ShapeDtypeStruct((1, config.samples, 12), np.float32, sharding=sharding)
    visible = jax.ShapeDtypeStruct((1, config.patches, 12), bool, sharding=sharding)
    counted = jax.jit(model.apply).lower(params, ecg, visible).cost_analysis()["flops"]
    assert 1.0 <= counted / forward_flops_per_record(config) < 1.06


def test_fixed_positions_hold_no_parameters(mesh):
    for position in (Position.SINUSOIDAL, Position.ROTARY):
        config = ladder.model_config(30_000, position=position)
        tree = jax.eval_shape(models.build(config).init, jax.random.key(0))
        assert sum(leaf.size for leaf in jax.tree.leaves(tree)) == parameters(config).total


def test_too_small_a_size_is_refused():
    with pytest.raises(ValueError, match="no depth and width give about 100 parameters"):
        ladder.model_config(100)


def test_the_table_prints():
    table = subprocess.run([sys.executable, "-m", "ecg_jax.ladder"], capture_output=True, text=True, check=True).stdout
    assert len(table.splitlines()) == 1 + len(ladder.RUNGS) and "1,061,775,360" in table
