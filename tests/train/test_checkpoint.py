import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ecg_jax.train.checkpoint import Checkpoints, abstract
from ecg_jax.train.checksum import digests

pytestmark = pytest.mark.usefixtures("mesh")


def tree(seed=0, size=1000):
    keys = jax.random.split(jax.random.key(seed), 2)
    weights = {"w": jax.random.normal(keys[0], (size, 3)), "b": jax.random.normal(keys[1], (7,)).astype(jnp.bfloat16)}
    return {"step": jnp.asarray(seed, jnp.int32), "params": weights, "flag": jnp.asarray([True, False])}


def same(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


def shape_of(state):
    return abstract(jax.tree.map(jnp.zeros_like, state))


def test_a_digest_shows_any_changed_bit_and_any_exchange():
    state, before = tree(), digests(tree())
    assert before == digests(state) and len(set(before.values())) == len(before)
    words = np.asarray(state["params"]["w"]).view(np.uint32)
    rng = np.random.default_rng(0)
    for _ in range(40):
        flipped = words.copy()
        flipped[rng.integers(1000), rng.integers(3)] ^= np.uint32(1 << rng.integers(32))
        now = digests(state | {"params": state["params"] | {"w": jnp.asarray(flipped.view(np.float32))}})
        assert [name for name in now if now[name] != before[name]] == ["['params']['w']"]
    exchanged = state["params"] | {"w": state["params"]["w"][::-1]}
    assert digests(state | {"params": exchanged}) != before


def test_states_come_back_bit_for_bit(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        for seed in (1, 5, 3):
            checkpoints.save(seed, tree(seed))
        checkpoints.save(5, tree(9))  # there already
        assert checkpoints.restore(shape_of(tree()), exactly=4) is None
        for at_most, seed in ((None, 5), (4, 3), (1, 1)):
            same(checkpoints.restore(shape_of(tree()), at_most=at_most), tree(seed))
        checkpoints.keep([3])
        assert checkpoints.steps == [3]
    with Checkpoints(tmp_path) as checkpoints:
        same(checkpoints.restore(shape_of(tree())), tree(3))


def test_a_state_may_be_donated_while_it_is_saved(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        state = tree(1, size=200_000)
        checkpoints.save(1, state)
        jax.jit(lambda s: jax.tree.map(lambda x: x * 0, s), donate_argnums=0)(state)
        same(checkpoints.restore(shape_of(tree(1, size=200_000))), tree(1, size=200_000))


def spoil(folder, how):
    """Damages the largest file of a checkpoint, or of its metadata."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    victim = max(files, key=lambda path: path.stat().st_size)
    if how == "truncated":
        os.truncate(victim, victim.stat().st_size // 2)
    elif how == "empty":
        for path in files:
            path.write_bytes(b"")
    elif how == "no metadata":
        for path in folder.rglob("*METADATA"):
            path.write_text("{")
    else:
        raw = bytearray(victim.read_bytes())
        raw[len(raw) // 2] ^= 16
        victim.write_bytes(raw)


@pytest.mark.parametrize("how", ["truncated", "flipped", "empty", "no metadata"])
def test_a_damaged_checkpoint_is_set_aside_and_the_one_before_is_taken(tmp_path, how, caplog):
    with Checkpoints(tmp_path) as checkpoints:
        for seed in (1, 2):
            checkpoints.save(seed, tree(seed))
    spoil(tmp_path / "2", how)
    with Checkpoints(tmp_path) as checkpoints:
        same(checkpoints.restore(shape_of(tree())), tree(1))
        assert (tmp_path / "2.damaged").is_dir() and checkpoints.steps == [1]
        assert "was set aside as 2.damaged" in caplog.text
        checkpoints.save(2, tree(2))
        same(checkpoints.restore(shape_of(tree())), tree(2))


def test_a_checkpoint_of_another_shape_is_refused_and_stays(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, tree(1))
        with pytest.raises(ValueError, match=r"holds params/w of shape \(1000, 3\), the run's state \(999, 3\)"):
            checkpoints.restore(shape_of(tree(1, size=999)))
        with pytest.raises(ValueError, match="holds w of shape none, the run's state \\(3,\\)"):
            checkpoints.restore(shape_of({"w": jnp.zeros(3)}))
        assert checkpoints.steps == [1]
