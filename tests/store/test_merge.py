"""Merging: whatever the target has of a trunk, it ends with the source's runs and their trunks' curves."""

import shutil

import pandas as pd
import pytest
from support.finished_stores import begin, finish, finished_store, log_steps, targets, without_checksums

from ecg_jax import __main__ as cli
from ecg_jax.files.lease import acquire
from ecg_jax.monitor import to_trackers
from ecg_jax.store import merge as merging
from ecg_jax.store.curve import CURVE
from ecg_jax.store.layout import open_store
from ecg_jax.store.merge import merge
from ecg_jax.store.metrics_log import LOG, reach, read_metrics
from ecg_jax.store.segments import read_segments
from ecg_jax.store.tables import IDENTITIES, export

TARGETS = targets()
SHORT, LONG = TARGETS


class Killed(BaseException):
    """Stands for the end of the process."""


def curve_of(store, folder):
    return pd.read_csv(export(store, folder)["curve"], dtype=IDENTITIES)


def contents(store):
    return {path: path.read_bytes() for path in store.path.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return finished_store(tmp_path_factory.mktemp("source"), TARGETS)


def nothing(store):
    pass


def config_only(store):
    begin(store, LONG)


def killed_at_its_start(store):
    begin(store, LONG, steps=0)


def begun(store):
    begin(store, LONG, steps=5, machine=0.01)


def begun_further_than_the_shorter_run(store):
    begin(store, LONG, steps=15, machine=0.01)


def shorter(store):
    finish(store, SHORT, machine=0.01)


def longer_log(store):
    begin(store, LONG, steps=200, machine=0.01)


def without_its_log(store):
    finish(store, SHORT)
    (store.trunk(SHORT) / LOG).unlink()


def equal(store):
    finish(store, SHORT)
    finish(store, LONG)


@pytest.mark.parametrize(
    "had",
    [
        nothing,
        config_only,
        killed_at_its_start,
        begun,
        begun_further_than_the_shorter_run,
        shorter,
        longer_log,
        without_its_log,
        equal,
    ],
)
def test_runs_come_with_their_trunks_whatever_the_target_has(source, tmp_path, had):
    target = open_store(tmp_path / "target", "s", TARGETS, {"target": "t"})
    had(target)
    had_done = sum(map(target.is_done, TARGETS))
    merged = merge(source, target)
    assert (merged.copied, merged.held_by_both, merged.left) == (2 - had_done, had_done, 0)
    ours, theirs = curve_of(target, tmp_path / "a"), curve_of(source, tmp_path / "b")
    assert set(theirs.records_seen) <= set(ours.records_seen) and ours.records_seen.is_monotonic_increasing
    assert reach(target.trunk(LONG) / LOG, read_metrics(target.trunk(LONG) / LOG)) >= LONG.branch_step
    assert len(to_trackers.logs(target)) == 3 and read_segments(target.trunk(LONG))
    for run in TARGETS:
        assert not set(source.record(run).items()) ^ set(target.record(run).items()) or had in (shorter, equal)
    before = contents(target)
    again = merge(source, target)
    assert (again.copied, again.trunks, again.held_by_both) == (0, 0, 2)
    assert contents(target) == before  # idempotent
    assert not [path for path in before if path.name.startswith(".") or path.name == "owner.json"]


def test_of_two_curves_the_one_that_reaches_further_is_taken_whole(source, tmp_path):
    target = open_store(tmp_path / "target", "s", TARGETS, {"target": "t"})
    finish(target, SHORT, machine=0.01)
    merge(source, target)
    pd.testing.assert_frame_equal(curve_of(target, tmp_path / "a"), curve_of(source, tmp_path / "b"))
    other = finished_store(tmp_path / "other", TARGETS, [SHORT], machine=0.02)
    merge(other, target)
    pd.testing.assert_frame_equal(curve_of(target, tmp_path / "a"), curve_of(source, tmp_path / "b"))


@pytest.mark.parametrize(
    ("had", "came", "steps"),
    [
        ((), (1,), 200),  # the target trained further, and did no run
        ((), (0, 2), 0),
        ((0,), (1, 2), 0),
        ((0,), (1,), 200),
        ((1,), (0, 1), 0),
        ((2,), (0, 1), 0),
        ((0, 2), (1, 2), 200),
    ],
)
def test_a_store_of_two_machines_stays_whole_and_goes_on(tmp_path, had, came, steps):
    """The last run of a trunk knows its curve: of both machines that did it, and when more runs are done later."""
    wanted = targets(budgets=(512, 1024, 2048))
    source = finished_store(tmp_path / "source", wanted, [wanted[k] for k in came])
    target = finished_store(tmp_path / "target", wanted, [wanted[k] for k in had], machine=0.01)
    begin(target, wanted[-1], steps=steps, machine=0.01)
    merge(source, target)
    export(target, tmp_path / "merged")
    before = contents(target)
    assert merge(source, target).trunks == 0 and contents(target) == before
    for run in wanted:
        if not target.is_done(run):
            finish(target, run, machine=0.01)
            export(target, tmp_path / "grown")


def test_what_an_earlier_merge_left_behind_is_brought_later(source, tmp_path):
    target = finished_store(tmp_path / "target", TARGETS)
    shutil.rmtree(target.trunk(LONG))
    begin(target, LONG)
    without_checksums(target)
    with pytest.raises(FileNotFoundError, match=r"curve\.csv is missing"):
        export(target, tmp_path)
    assert merge(source, target).trunks == 1
    pd.testing.assert_frame_equal(curve_of(target, tmp_path / "a"), curve_of(source, tmp_path / "b"))


def test_trunks_that_do_not_agree_are_refused_before_anything_is_copied(tmp_path, capsys):
    wanted = targets(seeds=(0, 1))
    source = finished_store(tmp_path / "source", wanted)
    target = open_store(tmp_path / "target", "s", wanted, {"target": "t"})
    begin(target, wanted[-1], steps=10, machine=0.2)
    before = contents(target)
    assert cli.main(["merge", str(source.root), str(target.root)]) == 2
    told = capsys.readouterr().err
    assert str(target.trunk(wanted[-1])) in told and "at step 8: more than 5% apart, so these are not one trunk" in told
    assert contents(target) == before


@pytest.mark.parametrize("diverged", ["source", "target"])
def test_a_trunk_that_diverged_in_one_store_alone_is_refused(tmp_path, diverged):
    source = finished_store(tmp_path / "source", TARGETS, [LONG], end=9 if diverged == "source" else None)
    target = open_store(tmp_path / "target", "s", TARGETS, {"target": "t"})
    log_steps(target.trunk(LONG), LONG, range(20), end=9 if diverged == "target" else None)
    folder = (source if diverged == "source" else target).trunk(LONG)
    with pytest.raises(ValueError, match=f"the trunk in {folder} diverged at step 9, the one in .* did not"):
        merge(source, target)


def test_runs_that_diverged_are_brought(tmp_path):
    source = finished_store(tmp_path / "source", TARGETS, end=9)
    target = open_store(tmp_path / "target", "s", TARGETS, {"target": "t"})
    merge(source, target)
    runs = pd.read_csv(export(target, tmp_path)["runs"])
    assert runs.diverged.all() and len(runs) == 2 and len(to_trackers.logs(target)) == 1


def test_a_pack_that_is_being_trained_is_left_to_its_owner(tmp_path, capsys):
    wanted = targets(seeds=(0, 1))
    source = finished_store(tmp_path / "source", wanted)
    target = finished_store(tmp_path / "target", wanted, [])
    (folder,) = (folder for folder, (member,) in target.recorded_packs() if member.seed == 1)
    with acquire(folder):
        before = {path: path.read_bytes() for path in target.trunk(wanted[-1]).rglob("*")}
        assert cli.main(["merge", str(source.root), str(target.root)]) == 2
        printed = capsys.readouterr()
        assert "2 runs copied" in printed.out and "2 runs and their trunks were left to process" in printed.err
        assert {path: path.read_bytes() for path in target.trunk(wanted[-1]).rglob("*")} == before
        assert sum(map(target.is_done, wanted)) == 2
    assert cli.main(["merge", str(source.root), str(target.root)]) == 0
    assert all(map(target.is_done, wanted))


@pytest.mark.parametrize("at", range(1, 6))
def test_a_merge_that_was_killed_is_done_again(tmp_path, monkeypatch, at):
    """Killed before any file or folder is put in its place."""
    wanted = targets(seeds=(0, 1))
    source = finished_store(tmp_path / "source", wanted)
    target = finished_store(tmp_path / "target", wanted, wanted[:1])
    begun_here = target.run(wanted[1])
    log_steps(begun_here, wanted[1], range(24, 26))
    calls = []

    def killing(function):
        def call(*arguments, **options):
            calls.append(arguments)
            if len(calls) == at:
                raise Killed
            return function(*arguments, **options)

        return call

    with monkeypatch.context() as patch:
        patch.setattr(merging, "write_texts", killing(merging.write_texts))
        patch.setattr(merging.shutil, "copytree", killing(shutil.copytree))
        with pytest.raises(Killed):
            merge(source, target)
    for run in wanted:  # a run that is there has its curve, at any moment
        if target.is_done(run):
            export(target, tmp_path / "between")
    merge(source, target)
    for name, path in export(target, tmp_path / "a").items():
        assert path.read_text() == export(source, tmp_path / "b")[name].read_text()


def test_a_source_that_lost_a_file_is_named_before_anything_is_copied(tmp_path):
    source = finished_store(tmp_path / "source", TARGETS)
    target = open_store(tmp_path / "target", "s", TARGETS, {"target": "t"})
    for path in (source.trunk(LONG) / CURVE, source.run(LONG) / "patients.csv", source.run(LONG) / LOG):
        text = path.read_text()
        path.write_text(text[: len(text) // 2])
        with pytest.raises(ValueError, match=path.name) as raised:
            merge(source, target)
        assert str(path) in str(raised.value) and not list(target.path.glob("runs/*"))
        path.write_text(text)
    assert merge(source, target).copied == 2
