"""The reading benchmark's parts: its ratios, and the set of many names of one shard."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from support.synthetic_pools import made_up_pool

from benchmarks.reading import reading_speed
from ecg_jax.data.storage import shards


def test_ratios_are_taken_within_a_round():
    rows = [
        (number, reader, 100, wall_s, processor_s)
        for number, busy in enumerate((1, 3, 10))
        for reader, wall_s, processor_s in (("ours", 9e-5, 5e-5 * busy), ("wfdb in torch", 9e-3, 4e-3 * busy))
    ]
    table = reading_speed._speed(pd.DataFrame(rows, columns=["round", "reader", "rate_hz", "wall_s", "processor_s"]))
    ours = table.set_index("reader").loc["ours"]
    assert [ours[f"times_the_peer_{name}"] for name in ("median", "least", "greatest")] == pytest.approx([80] * 3)
    assert ours.records_per_s_of_a_core == pytest.approx(1 / 1.5e-4)


def test_many_names_of_one_shard_are_one_large_set(tmp_path):
    pool = dataclasses.replace(made_up_pool(5), source="made_up")
    shards.write_shards(tmp_path / "one", [pool], fingerprint={})
    large = shards.ShardSource(reading_speed._linked(tmp_path / "one", tmp_path / "large", 7))
    assert len(large) == 35
    indices = np.array([0, 34, 17, 5])
    assert np.array_equal(large.read(indices), pool.ecg[indices % 5])
