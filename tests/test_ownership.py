import json
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from ecg_jax.ownership import LostOwnershipError, acquire, describe


def aged(folder, seconds):
    stamp = (folder / "owner.json").stat().st_mtime - seconds
    os.utime(folder / "owner.json", (stamp, stamp))


def test_a_folder_has_one_owner_at_a_time(tmp_path):
    with acquire(tmp_path / "trunk") as owner:
        owner.check()
        assert acquire(tmp_path / "trunk") is None
        assert describe(tmp_path / "trunk").startswith(f"process {os.getpid()} on ")
    assert describe(tmp_path / "trunk") == ""
    with acquire(tmp_path / "trunk") as again:
        again.check()
    assert list((tmp_path / "trunk").iterdir()) == []


def test_a_dead_owner_is_followed_and_notices(tmp_path):
    dead = acquire(tmp_path, refresh_seconds=60)
    aged(tmp_path, 100)
    assert acquire(tmp_path) is None  # not old enough
    aged(tmp_path, 300)
    with acquire(tmp_path) as heir:
        heir.check()
        with pytest.raises(LostOwnershipError, match=f"taken over by another process .now process {os.getpid()}"):
            dead.check()
        dead.__exit__()
        heir.check()  # the one that was taken over leaves the heir's file alone


def test_a_living_owner_keeps_its_file_young(tmp_path):
    with acquire(tmp_path, refresh_seconds=0.05) as owner:
        aged(tmp_path, 300)
        time.sleep(0.5)
        assert acquire(tmp_path) is None
        owner.check()


def test_a_vanished_file_is_a_loss(tmp_path, monkeypatch):
    monkeypatch.setattr("ecg_jax.ownership.AWAY_SECONDS", 0.1)
    with acquire(tmp_path) as owner:
        (tmp_path / "owner.json").unlink()
        with pytest.raises(LostOwnershipError, match=r"owner\.json is gone"):
            owner.check()


@pytest.mark.parametrize("stale", [False, True])
def test_of_many_takers_one_wins(tmp_path, stale):
    won = []
    for turn in range(20):
        folder = tmp_path / str(turn)
        if stale:
            acquire(folder, refresh_seconds=60)
            aged(folder, 300)
        together = threading.Barrier(6)

        def take(_, folder=folder, together=together):
            together.wait()
            owner = acquire(folder, refresh_seconds=60)
            together.wait()
            try:
                return owner is not None and owner.check() is None
            except LostOwnershipError:
                return False

        with ThreadPoolExecutor(6) as pool:
            won.append(sum(pool.map(take, range(6))))
        assert json.loads((folder / "owner.json").read_text())["token"]
    assert max(won) == 1 and sum(won) >= (15 if stale else 20)
