import dataclasses

import numpy as np
import pytest
from pools import made_up_pool

from ecg_jax.data.npz import load_pool, save_pool


def test_a_pool_comes_back_as_it_was(tmp_path):
    pool = made_up_pool(7)
    save_pool(tmp_path / "deep" / "pool.npz", pool)
    again = load_pool(tmp_path / "deep" / "pool.npz")
    for field in dataclasses.fields(pool):
        np.testing.assert_array_equal(getattr(again, field.name), getattr(pool, field.name))
    assert again.labels == pool.labels and again.ecg.dtype == np.int16
    assert isinstance(again.ecg, np.memmap) and not again.ecg.flags.writeable  # larger sets than memory holds
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["pool.npz"]


def test_a_damaged_file_is_refused(tmp_path):
    path = tmp_path / "pool.npz"
    save_pool(path, made_up_pool(7))
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 1
    for damaged in (whole[: len(whole) // 2], bytes(flipped), b""):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"pool\.npz is not a whole pool of records"):
            load_pool(path)
    save_pool(tmp_path / "again.npz", made_up_pool(2))
    with np.load(tmp_path / "again.npz") as arrays:
        np.savez_compressed(path, **arrays)
    with pytest.raises(ValueError, match="its signals are compressed"):
        load_pool(path)
    np.savez(path, ecg=np.zeros(3))
    with pytest.raises(ValueError, match="about"):
        load_pool(path)
    with pytest.raises(FileNotFoundError):
        load_pool(tmp_path / "none.npz")


def test_nothing_is_unpickled(tmp_path):
    np.savez(tmp_path / "pool.npz", about=np.array([{"format": 1}], dtype=object))
    with pytest.raises(ValueError, match="allow_pickle"):
        load_pool(tmp_path / "pool.npz")
