import json
import os
import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from ecg_jax.files import lease
from ecg_jax.files.lease import LostOwnershipError, acquire, describe, has_living_owner
from ecg_jax.store.metrics_log import MetricsLog


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
    monkeypatch.setattr("ecg_jax.files.lease.AWAY_SECONDS", 0.1)
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


# ---- a file system that refuses -------------------------------------------------------------------------------------


def refusing(monkeypatch, until=lambda: True):
    """Every look at an owner file fails, as on a network that is away, while `until()`."""
    read = lease._read

    def look(path):
        if until():
            raise OSError(116, "Stale file handle")
        return read(path)

    monkeypatch.setattr(lease, "_read", look)


def test_a_heartbeat_outlives_errors_of_the_file_system(tmp_path, monkeypatch, caplog):
    failed, went = [], threading.Event()

    def once():
        failed.append(1)
        if len(failed) > 3:
            went.set()
        return len(failed) <= 3

    refusing(monkeypatch, once)
    with acquire(tmp_path, refresh_seconds=0.02) as owner:
        assert went.wait(30)
        aged(tmp_path, 300)
        old, until = (tmp_path / "owner.json").stat().st_mtime, time.monotonic() + 30
        while (tmp_path / "owner.json").stat().st_mtime < old + 200 and time.monotonic() < until:
            time.sleep(0.02)
        assert acquire(tmp_path) is None
        owner.check()
    assert caplog.text.count("cannot be touched ([Errno 116] Stale file handle): trying again") == 1


def test_an_owner_that_cannot_look_goes_on_while_nobody_may_have_taken_over(tmp_path, monkeypatch):
    monkeypatch.setattr(lease, "AWAY_SECONDS", 0.1)
    with acquire(tmp_path, refresh_seconds=60) as owner:
        with monkeypatch.context() as patch:
            refusing(patch)
            owner.check()
            owner._refreshed -= 200  # it cannot be touched for so long that others may take it
            with pytest.raises(LostOwnershipError, match=r"could not be touched for 2\d\d s \(.*Stale file handle\)"):
                owner.check()
            assert not owner.is_held()
        owner.check()  # the file system is back, and nobody came


def test_an_owner_that_slept_goes_on_when_nobody_came(tmp_path):
    with acquire(tmp_path, refresh_seconds=60) as owner:
        owner._refreshed -= 1000
        aged(tmp_path, 1000)
        owner.check()
        assert acquire(tmp_path) is None  # it is young again


def test_a_heartbeat_makes_no_file(tmp_path):
    owner = acquire(tmp_path, refresh_seconds=0.02)
    (tmp_path / "owner.json").unlink()
    time.sleep(0.2)
    assert list(tmp_path.iterdir()) == []
    owner.__exit__()


OWNER = {"token": "a", "pid": 1, "host": "b", "of": "c"}


@pytest.mark.parametrize(
    "text",
    [
        json.dumps(OWNER)[:20],
        "[1, 2]",
        "null",
        '"token"',
        *(json.dumps({key: OWNER[key] for key in OWNER if key != missing}) for missing in OWNER),
        *(json.dumps(OWNER | {"pid": pid}) for pid in ("1", 0, -1, 2**40, 1.5, True)),
        '{"token": NaN}',
        b"\xff{}",
    ],
)
def test_a_damaged_owner_file_is_named_with_the_remedy(tmp_path, text):
    path = tmp_path / "owner.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    for look in (acquire, describe, has_living_owner):
        with pytest.raises(ValueError, match=re.escape(str(path))) as raised:
            look(tmp_path)
        assert "end the process that trains there, if one does, and delete the file" in str(raised.value)
    path.unlink()
    with acquire(tmp_path) as owner:
        owner.check()


def test_a_number_of_a_process_says_nothing_of_another_machine(tmp_path, monkeypatch):
    """Two machines, or containers, may have one name, and share this folder: numbers of processes do not compare."""
    with acquire(tmp_path, refresh_seconds=60):
        path = tmp_path / "owner.json"
        owner = json.loads(path.read_text())
        path.write_text(json.dumps(owner | {"pid": 2**22 + 1, "of": owner["of"] + " elsewhere"}))
        assert acquire(tmp_path) is None and has_living_owner(tmp_path)
        path.write_text(json.dumps(owner | {"pid": 2**22 + 1}))
        assert not has_living_owner(tmp_path)
        with acquire(tmp_path) as heir:
            heir.check()


def test_who_lost_a_folder_logs_no_line_more(tmp_path):
    first = acquire(tmp_path, refresh_seconds=60)
    log = MetricsLog(tmp_path / "metrics.jsonl", may_write=first.is_held)
    log.add(0, {"train/loss": 1.0})
    log.flush()
    log.add(1, {"train/loss": 0.9})
    aged(tmp_path, 300)  # it was stopped, and another came
    with acquire(tmp_path) as heir:
        following = MetricsLog(tmp_path / "metrics.jsonl", may_write=heir.is_held)
        following.add(1, {"train/loss": 0.9})
        following.flush()
        text = (tmp_path / "metrics.jsonl").read_text()
        log.flush()
        for step in range(2, 200):
            log.add(step, {"train/loss": 0.9})
        log.flush()
        assert (tmp_path / "metrics.jsonl").read_text() == text and text.count("\n") == 2
        MetricsLog(tmp_path / "metrics.jsonl", may_write=first.is_held)
        assert (tmp_path / "metrics.jsonl").read_text() == text
    first.__exit__()
