"""What a study does next, at a cost that does not grow with its length."""

import dataclasses
from pathlib import Path

import pytest
from support.studies import DATA, RESPONSE, TARGETS

from ecg_jax.files.lease import acquire
from ecg_jax.files.whole_file import write_json
from ecg_jax.monitor.progress import StudyProgress
from ecg_jax.store.layout import Store, open_store
from ecg_jax.study import run_study, sweep
from ecg_jax.study.agenda import Agenda
from ecg_jax.study.deadline import Slot
from ecg_jax.study.options import StudyOptions
from ecg_jax.study.packing import plan


def finish(store: Store, runs, flops_per_second=1e9) -> None:
    """Leaves the records that trained runs would, as far as it matters here."""
    for run in runs:
        told = {"loss": 1.0, "diverged": False, "message": "", "pack_size": 1, "flops_per_second": flops_per_second}
        names = {"run_id": run.run_id, "trunk_id": run.trunk_id, "response": run.response, "n_params": 1}
        write_json(store.run(run) / "record.json", names | told)


def many(root: Path, trunks: int):
    """A study of two runs per trunk."""
    targets = sweep.grid(TARGETS[0], {"seed": range(trunks), "budget_records": (512, 1024)})
    return open_store(root, "s", targets, {}), targets


def agenda_of(store, targets, minutes=None):
    """Its agenda, and its packs."""
    packs, agenda = plan(store, targets, lambda run: 1), Agenda(store, Slot(minutes))
    agenda.plan(packs)
    return agenda, packs


def test_packs_are_taken_in_order_and_once_done_never_again(tmp_path):
    store, targets = many(tmp_path, 3)
    agenda, packs = agenda_of(store, targets)
    taken = []
    while (turn := agenda.take()).number is not None:
        taken.append(turn.number)
        with turn.owner:
            finish(store, packs[turn.number].runs)
    assert taken == [0, 1, 2] and turn.others == []
    agenda.plan(packs)
    assert agenda.take().number is None


def test_what_others_do_and_have_done_is_noticed_when_its_turn_comes(tmp_path):
    store, targets = many(tmp_path, 4)
    agenda, packs = agenda_of(store, targets)
    finish(store, packs[0].runs)
    with acquire(store.pack(packs[1].pack_id)):
        turn = agenda.take()
        assert turn.number == 2 and turn.others == [1]
        with turn.owner:
            finish(store, packs[2].runs)
        finish(store, packs[3].runs)  # by another again
        assert agenda.take() == (None, None, [1])
    turn = agenda.take()  # and what another leaves behind is taken over
    assert turn.number == 1 and turn.others == []
    turn.owner.__exit__()


def test_a_pack_of_which_one_run_is_wanting_is_not_done(tmp_path):
    store, targets = many(tmp_path, 2)
    agenda, packs = agenda_of(store, targets)
    finish(store, packs[0].runs[:1])
    turn = agenda.take()
    with turn.owner:
        assert turn.number == 0


def test_only_what_fits_the_slot_is_taken_and_records_of_others_tell_how_long_it_takes(tmp_path):
    store, targets = many(tmp_path, 4)
    finish(store, targets[:2])
    agenda, packs = agenda_of(store, targets, minutes=5)
    turn = agenda.take()
    with turn.owner:
        assert turn.number == 1
        finish(store, packs[1].runs, flops_per_second=1e-3)  # days: no slot of this length would hold it
    turn = agenda.take()
    with turn.owner:
        assert turn.number == 2
    known = agenda._rates.expected_seconds(packs[2])
    assert known > 1e6
    agenda._slot._end = 0.0
    assert agenda.take().number is None


@pytest.mark.parametrize("minutes", [None, 60])
def test_looks_and_reads_of_a_study_do_not_grow_with_its_length(tmp_path, monkeypatch, minutes):
    looks = {"is_done": 0, "record": 0}
    for name in ("is_done", "record"):
        before = getattr(Store, name)

        def counted(self, run, name=name, before=before):
            looks[name] += 1
            return before(self, run)

        monkeypatch.setattr(Store, name, counted)
    monkeypatch.setattr(run_study, "run_pack", lambda store, pack, *_, **__: finish(store, pack.runs))
    per_run = []
    for trunks in (5, 20):
        store, targets = many(tmp_path / str(trunks), trunks)
        looks |= {"is_done": 0, "record": 0}
        responses = {TARGETS[0].response: RESPONSE}
        assert (
            run_study.run_study(store, targets, DATA, responses, options=StudyOptions(pack_size=1, minutes=minutes))
            == 0
        )
        per_run.append((looks["is_done"] / len(targets), looks["record"] / len(targets)))
    assert per_run[0] == per_run[1] and max(per_run[0]) < 6
    assert (per_run[0][1] > 0) == (minutes is not None)


def test_progress_counts_what_is_done_by_identity(tmp_path):
    done = [dataclasses.replace(run) for run in TARGETS[:1]]
    progress = StudyProgress(TARGETS, done)
    assert progress._finished == 1 and 0 < progress._skipped < progress._total
    assert StudyProgress(TARGETS, TARGETS)._skipped == progress._total
