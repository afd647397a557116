"""Any damage to any file of a store, met by any command: it ends right, or with one line that names the file."""

import itertools
import json
import re
import shutil

import pandas as pd
import pytest
from support.finished_stores import data, finish, finished_store, targets, without_checksums

from ecg_jax import __main__ as cli
from ecg_jax.files.lease import acquire
from ecg_jax.store.layout import Store, open_store
from ecg_jax.store.tables import MACHINE_COLUMNS, export
from ecg_jax.study import run_study
from ecg_jax.study.options import StudyOptions
from ecg_jax.terminal.command import command

TARGETS = targets(seeds=(0, 1))
#: Of the second trunk, the longer run is left to do.
DONE, LEFT = TARGETS[:3], TARGETS[3]

FILES = {
    "study.json": lambda store: store.path / "study.json",
    "pack.json": lambda store: pack_of(store) / "pack.json",
    "owner.json": lambda store: pack_of(store) / "owner.json",
    "trunk's config.json": lambda store: store.trunk(LEFT) / "config.json",
    "trunk's metrics.jsonl": lambda store: store.trunk(LEFT) / "metrics.jsonl",
    "trunk's curve.csv": lambda store: store.trunk(LEFT) / "curve.csv",
    "trunk's segments.jsonl": lambda store: store.trunk(LEFT) / "segments.jsonl",
    "config.json": lambda store: store.run(DONE[2]) / "config.json",
    "metrics.jsonl": lambda store: store.run(DONE[2]) / "metrics.jsonl",
    "patients.csv": lambda store: store.run(DONE[2]) / "patients.csv",
    "sources.csv": lambda store: store.run(DONE[2]) / "sources.csv",
    "record.json": lambda store: store.run(DONE[2]) / "record.json",
}


def pack_of(store):
    (folder,) = (folder for folder, (member,) in store.recorded_packs() if member.trunk_id == LEFT.trunk_id)
    return folder


# ---- damages: of a file's bytes and its name, the bytes that it has then, or None where it is gone ------------------


def deleted(raw, name):
    return None


def emptied(raw, name):
    return b""


def cut(raw, name):
    return raw[: len(raw) // 2]


def flipped(raw, name):
    middle = len(raw) // 2
    return raw[:middle] + bytes([raw[middle] | 0x80]) + raw[middle + 1 :]


def null(raw, name):
    return b"null\n" * (raw.count(b"\n") if "jsonl" in name else 1)


def a_list(raw, name):
    return b"[1, 2]\n" * (raw.count(b"\n") if "jsonl" in name else 1)


def a_key_less(raw, name):
    """Of every row, line or object something that readers use."""
    text = raw.decode()
    if name.endswith("csv"):
        return "".join(re.sub(r",[^,]*\n", "\n", line) for line in text.splitlines(keepends=True)).encode()
    if name.endswith("jsonl"):
        lines = [json.loads(line) for line in text.splitlines()]
        kept = [{key: line[key] for key in line if key not in ("train/loss", "started")} for line in lines]
        return "".join(json.dumps(line) + "\n" for line in kept).encode()
    tree = json.loads(text)
    del tree[next(key for key in ("targets", "members", "token", "model", "loss") if key in tree)]
    return json.dumps(tree).encode()


def _with_number(raw, name, number):
    """The file with another number in its midst."""
    text = raw.decode()
    found = list(re.finditer(r"(?<=[,:] )-?\d[\d.e+-]*|(?<=,)-?\d[\d.e+-]*(?=\n)", text))
    if not found:  # where files hold text alone
        found = list(re.finditer(r'"[0-9TZ:-]{20}"', text))
    where = found[len(found) // 2]
    return (text[: where.start()] + number + text[where.end() :]).encode()


def not_a_number(raw, name):
    return _with_number(raw, name, "nan" if name.endswith("csv") else "NaN")


def a_string(raw, name):
    return _with_number(raw, name, "many" if name.endswith("csv") else '"many"')


DAMAGES = (deleted, emptied, cut, flipped, null, a_list, a_key_less, not_a_number, a_string)


# ---- commands: each returns its exit status, and what must be as without damage ------------------------------------


def run_status(store, out, capsys):
    status = cli.main(["status", str(store.root)])
    found = re.search(r"(\d) of 4 runs done", capsys.readouterr().out) if not status else None
    return status, found and found[1]


def run_export(store, out, capsys):
    status = cli.main(["export", str(store.root), "--out", str(out)])
    return status, status or tables(out / "s")


def run_show(store, out, capsys):
    status = cli.main(["show", str(store.root), DONE[2].run_id])
    shown = status or json.loads(capsys.readouterr().out)
    return status, status or [shown.get("config", {}).get("seed"), shown.get("record", {}).get("loss")]


def run_replay(store, out, capsys):
    status = cli.main(["replay", str(store.root), "--tensorboard", str(out)])
    return status, status or len(list((out / "s").rglob("events*")))


def run_merge(store, out, capsys):
    target = open_store(out / "target", "s", TARGETS, {"target": "t"})
    status = cli.main(["merge", str(store.root), str(target.root)])
    return status, status or tables_of(target, out)


@command
def start(arguments):
    """What a study does from its store: opens it, does the rest, exports."""
    root, out = arguments
    training, response = data()
    store = open_store(root, "s", TARGETS, {"target": "t"})
    run_study.run_study(
        store, TARGETS, training, {response.heldout.identity: response}, options=StudyOptions(pack_size=1, wait=False)
    )
    export(store, out)


def run_start(store, out, capsys):
    status = start([store.root, out])
    return status, status or tables(out)


COMMANDS = (run_status, run_export, run_show, run_replay, run_merge, run_start)


def tables(folder):
    frames = {name: pd.read_csv(folder / f"{name}.csv") for name in ("runs", "patients", "sources", "curve")}
    frames["runs"] = frames["runs"].drop(columns=list(MACHINE_COLUMNS))
    return {name: frame.to_csv() for name, frame in frames.items()}


def tables_of(store, out):
    export(store, out)
    return tables(out)


def train_nothing(store, pack, data, response, owner, **options):
    """In place of `run_pack`: its bookkeeping, without the steps."""
    for run in pack.runs:
        if not store.is_done(run):
            owner.check()
            finish(store, run)


@pytest.fixture(scope="module", params=[True, pytest.param(False, marks=pytest.mark.long)], ids=["", "earlier"])
def has_checksums(request):
    return request.param


@pytest.fixture(scope="module")
def sound(tmp_path_factory, has_checksums):
    """A store, or one of an earlier version, with a run left to do and the owner file of a dead process."""
    root = tmp_path_factory.mktemp("sound")
    store = finished_store(root, TARGETS, DONE)
    if not has_checksums:
        without_checksums(store)
    owner = acquire(pack_of(store))
    text = json.dumps(json.loads((pack_of(store) / "owner.json").read_text()) | {"pid": 2**22 + 1})  # beyond any
    owner.__exit__()
    (pack_of(store) / "owner.json").write_text(text + "\n")
    return store


@pytest.fixture(scope="module")
def expected(sound, tmp_path_factory):
    """What each command makes of the sound store."""
    made = {}

    def of(command, capsys):
        if command not in made:
            made[command] = outcome(command, sound, tmp_path_factory.mktemp("expected"), capsys)[:2]
        return made[command]

    return of


def outcome(command, sound, folder, capsys, kind=None, damage=None):
    shutil.copytree(sound.root, folder / "store")
    store = Store(folder / "store", "s")
    path = FILES[kind](store) if kind else None
    if path:
        raw = damage(path.read_bytes(), path.name)
        path.unlink() if raw is None else path.write_bytes(raw)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run_study, "run_pack", train_nothing)
        status, found = command(store, folder / "out", capsys)
    return status, found, path


CASES = list(itertools.product(FILES, DAMAGES, COMMANDS))
#: Every file, damage and command, and every pair of a file and a damage, once.
QUICK = [case for n, case in enumerate(CASES) if (n // 54 + n // 6 + n) % 6 == 0]
#: Where less is right.
LESS = {
    *(("record.json", deleted, command) for command in COMMANDS[:-1]),  # the run is not done
    ("config.json", deleted, run_show),  # the record alone
    ("owner.json", emptied, run_start),  # it may be being written: left alone for two minutes
}


@pytest.mark.parametrize(
    ("kind", "damage", "command"),
    [pytest.param(*case, marks=() if case in QUICK else pytest.mark.long) for case in CASES],
)
def test_a_damaged_store(sound, has_checksums, expected, tmp_path, capsys, kind, damage, command):
    status, found, path = outcome(command, sound, tmp_path, capsys, kind, damage)
    told = capsys.readouterr().err
    assert "Traceback" not in told
    if status:
        assert status == 2 and told.count("error:") == 1, told
        assert path.name in told and (path.parent.name in told or "STORE/<study>/study.json" in told), told
    elif (kind, damage, command) in LESS or (not has_checksums and (kind, damage) == ("sources.csv", deleted)):
        assert found  # records of an earlier version do not tell whether there were sources
    else:
        assert (status, found) == expected(command, capsys)
