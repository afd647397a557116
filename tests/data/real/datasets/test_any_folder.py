"""Any folder of recordings as a set: traps of real files, damaged copies, and a build that is killed."""

import csv
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import wfdb
from rich.console import Console
from support.wfdb_folders import KEEP, copied, damaged, edf, listed, made, read

from ecg_jax.data.ecg import LEADS
from ecg_jax.data.preprocess import apply_chain
from ecg_jax.data.real import build
from ecg_jax.data.real.datasets import any_folder
from ecg_jax.data.real.datasets.catalogue import Output
from ecg_jax.data.storage.shards import open_shards


def reason_of(source: Path, record: str) -> str:
    (entry,) = [entry for entry in listed(source) if entry.record_id == f"x/{record}"]
    with pytest.raises(ValueError) as told:
        read(entry)
    return str(told.value)


def test_ludb_as_an_unknown_folder(ecg_data_dir, tmp_path, capsys):
    source = copied(ecg_data_dir, tmp_path / "mine", *(f"ludb/data/{number}" for number in (1, 2, 10)))
    with (tmp_path / "labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("record", "patient", "labels"), ("1", "p", "SR; LVH"), ("10", "p", "AFIB")])
    arguments = ["mine", "--source", str(source), "--data-dir", str(tmp_path / "built"), "--workers", "1"]
    assert build.main([*arguments, "--labels", str(tmp_path / "labels.csv")]) == 0
    assert "3 records; 0 recordings left out" in capsys.readouterr().out
    pool = open_shards(tmp_path / "built" / "mine-100hz")
    assert pool.record_id.tolist() == ["mine/1", "mine/10", "mine/2"]
    assert pool.labels == (("LVH", "SR"), ("AFIB",), ())
    assert pool.patient_id[0] == pool.patient_id[1] != pool.patient_id[2] and pool.fold[0] == pool.fold[1]
    record = wfdb.rdrecord(str(source / "10"))
    assert record.sig_name == [lead.lower() for lead in LEADS]
    assert np.array_equal(pool.ecg[1], apply_chain(record.p_signal[:5000].astype(np.float32), 500, 100))
    assert build.main([*arguments, "--labels", str(tmp_path / "labels.csv")]) == 0
    assert "is there already" in capsys.readouterr().out
    assert build.main(arguments) == 2 and "was made from other data or settings" in capsys.readouterr().err


def test_every_family_of_the_challenge(ecg_data_dir, tmp_path, capsys):
    arguments = ["challenge", "--source", str(ecg_data_dir / "challenge2021"), "--data-dir", str(tmp_path)]
    assert build.main([*arguments, "--workers", "1"]) == 0
    printed = capsys.readouterr().out
    assert "142 records; 5 recordings left out" in printed and "flat lead 5" in printed
    with (tmp_path / "challenge-100hz.exclusions.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 5 and all("/JS" in row["record_id"] for row in rows)
    pool = open_shards(tmp_path / "challenge-100hz", **KEEP)
    assert len({name.split("/")[1] for name in pool.record_id}) == 6 and all(pool.labels)
    assert all(code.isdigit() for codes in pool.labels for code in codes)


@pytest.mark.parametrize("record", ["E00015", "E00018", "E00793"])
def test_georgias_headers_as_published(ecg_data_dir, tmp_path, record):
    source = copied(ecg_data_dir, tmp_path / "g", f"challenge2021/georgia/{record}")
    read(listed(source)[0])  # as repaired
    published = (source / f"{record}.hea.orig").read_text()
    (source / f"{record}.hea").write_text(published)
    assert reason_of(source, record).startswith(("header:", "gain:"))
    (source / f"{record}.hea").write_text(published.replace(f"{record}.mat 12", f"{record} 12", 1))
    assert reason_of(source, record).startswith("gain: 4880 per unit")


def test_edf_by_name_and_unit(tmp_path):
    ecg = made(tmp_path / "a", "wfdb")
    edf(tmp_path / "a" / "millivolts.edf", ecg)
    edf(tmp_path / "a" / "microvolts.EDF", 1000 * ecg[:, ::-1], unit="uV", names=LEADS[::-1])
    entries = listed(tmp_path / "a")
    assert [entry.record_id for entry in entries] == ["x/microvolts", "x/millivolts", "x/wfdb"]
    one, two, three = (read(entry)[0].astype(int) for entry in entries)
    assert np.abs(one - three).max() <= 1 and np.abs(two - three).max() <= 1


def test_edf_that_cannot_be_used_says_why(tmp_path):
    ecg = made(tmp_path / "a", "r")
    edf(tmp_path / "b" / "fewer.edf", ecg, names=LEADS[:11])
    edf(tmp_path / "b" / "unit.edf", ecg, unit="mmHg")
    edf(tmp_path / "b" / "short.edf", ecg[:4500])
    (tmp_path / "b" / "text.edf").write_text("not this")
    reasons = {
        "fewer": "leads: V6",
        "unit": "unit: 'mmHg'",
        "short": "too short: 9.00 s",
        "text": "unreadable: text.edf",
    }
    for record, reason in reasons.items():
        assert reason_of(tmp_path / "b", record).startswith(reason)
    edf(tmp_path / "a" / "r.edf", ecg)
    with pytest.raises(ValueError, match="are one name for two recordings"):
        listed(tmp_path / "a")


def test_two_leads_never_pass_for_twelve(ecg_data_dir, capsys, tmp_path):
    arguments = ["mitdb", "--source", str(ecg_data_dir / "mitdb"), "--data-dir", str(tmp_path), "--workers", "1"]
    assert build.main(arguments) == 2
    assert "none of 13 recordings can be used; leads 13" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("rate_hz", [257, 400, 1000])
def test_leads_by_name_units_and_rates(tmp_path, rate_hz):
    ecg = made(tmp_path / "a", "r", rate_hz)
    expected, labels = read(listed(tmp_path / "a")[0])
    assert labels == ("426783006", "59118001")
    assert np.abs(expected - apply_chain(ecg.astype(np.float32), rate_hz, 100).astype(int)).max() <= 1
    header = (tmp_path / "a" / "r.hea").read_text().splitlines()
    swapped = {"aVL": "aVF", "aVF": "aVL"}
    lines = [line.replace("1000(0)/mV", "1(0)/uV") for line in header]
    for k, line in enumerate(lines):
        lead = line.rpartition(" ")[2]
        lines[k] = line.removesuffix(lead) + swapped.get(lead, lead)
    (tmp_path / "a" / "r.hea").write_text("\n".join(lines))
    found, _ = read(listed(tmp_path / "a")[0])
    order = [LEADS.index(swapped.get(lead, lead)) for lead in LEADS]
    assert np.array_equal(found, expected[:, order])


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("r.dat", "../r.dat", "header: r.hea names '../r.dat' as its signals"),
        ("r.dat", "s.dat", "no signals: r.hea names 's.dat'"),
        (" V6", " V5", "leads: V5, V6 not there exactly once"),
        ("/mV", "/mmHg", "unit: 'mmHg'"),
        ("1000(0)", "0.002(0)", "amplitude: "),
        ("1000(0)", "200000(0)", "amplitude: "),
        (
            "1000(0)/mV 16 0 0 18955 0 V6",
            "99999999999(0)/mV 16 0 0 18955 0 V6",
            "amplitude: less than 1 µV is left of V6",
        ),
        ("r 12 500 5000", "r 12 500 4999", "too short: 10.00 s"),
        ("r 12 500 5000", "r 12 50 5000", "rate: 50"),
        ("r 12 500 5000", "r 12 500.5 5000", "rate: 500.5"),
        ("r 12 500 5000", "r 12 500 5001", "truncated: r.hea announces 5001 samples, r.dat holds 5000"),
        ("r 12 500 5000", "r twelve", "header: r.hea is no WFDB header"),
        ("r 12 500 5000", "r/2 12 500 5000", "header: "),
        (" V6", " V6\n#", None),
    ],
)
def test_a_recording_that_cannot_be_used_says_why(tmp_path, old, new, reason):
    made(tmp_path / "a", "r")
    path = tmp_path / "a" / "r.hea"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    if reason is None:
        read(listed(tmp_path / "a")[0])
    else:
        assert reason_of(tmp_path / "a", "r").startswith(reason)


def test_of_a_long_recording_the_first_ten_seconds_are_kept(tmp_path):
    """As INCART's: half an hour at 257 Hz."""
    ecg = made(tmp_path / "a", "r", rate_hz=257, seconds=61)
    found, _ = read(listed(tmp_path / "a")[0])
    assert np.abs(found - apply_chain(ecg[:2570].astype(np.float32), 257, 100).astype(int)).max() <= 1


@pytest.mark.parametrize(
    "dx",
    ["426783006,", "59118001,,426783006", " 426783006 ", "426783006,426783006", "59118001;426783006", "426783006.0",
     "59118001|426783006", "[426783006, 59118001]"],
)  # fmt: skip
def test_malformed_lists_of_diagnoses(tmp_path, dx):
    """Chapman-Shaoxing's headers have trailing and double commas."""
    made(tmp_path / "a", "r")
    path = tmp_path / "a" / "r.hea"
    for key in ("Dx:", "DX :", "dx: "):
        path.write_text(re.sub("(?i)dx.*", f"{key}{dx}", path.read_text()))
        labels = read(listed(tmp_path / "a")[0])[1]
        assert labels == (("426783006", "59118001") if "59118001" in dx else ("426783006",))


def test_a_set_is_made_from_the_signals_that_its_headers_name(tmp_path):
    """Whatever they are called: sizes tell a set that was built from one of other files."""
    made(tmp_path, "r")
    (tmp_path / "r.dat").rename(tmp_path / "signals.dat")
    (tmp_path / "r.hea").write_text((tmp_path / "r.hea").read_text().replace("r.dat", "signals.dat"))
    before = any_folder.list_folder("x", tmp_path, Output()).made_from
    (tmp_path / "notes.txt").write_text("of no recording")
    assert any_folder.list_folder("x", tmp_path, Output()).made_from == before
    (tmp_path / "signals.dat").write_bytes((tmp_path / "signals.dat").read_bytes() + bytes(24))
    assert any_folder.list_folder("x", tmp_path, Output()).made_from != before


def test_missing_samples_flat_leads_and_flipped_bits_say_so(tmp_path):
    made(tmp_path / "a", "flat", change=lambda ecg: ecg * (np.arange(12) != 7))
    assert reason_of(tmp_path / "a", "flat").startswith("flat lead: V2")
    made(tmp_path / "a", "short", seconds=9)
    assert reason_of(tmp_path / "a", "short").startswith("too short: 9.00 s")
    made(tmp_path / "a", "flipped")
    path = tmp_path / "a" / "flipped.dat"
    content = bytearray(path.read_bytes())
    content[1001] ^= 4
    path.write_bytes(content)
    assert reason_of(tmp_path / "a", "flipped").startswith("damaged: checksum of lead")
    content[0:2] = b"\x00\x80"
    path.write_bytes(content)
    header = path.with_suffix(".hea")
    sums = np.frombuffer(bytes(content), "<i2").reshape(-1, 12).sum(axis=0, dtype=int) % 65536
    lines = header.read_text().splitlines()
    for k in range(12):
        parts = lines[k + 1].split()
        parts[6] = str(sums[k])
        lines[k + 1] = " ".join(parts)
    header.write_text("\n".join(lines))
    assert reason_of(tmp_path / "a", "flipped").startswith("missing samples: I (1)")


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("id,labels\nr,A\n", "there is no column 'record'; found"),
        ("record,patient\nr,p\nr,q\n", "line 3: record 'r' is there twice, and its patient is 'q', unlike in line 2"),
        ("record\n../r\n", "1 of 1 records have no .hea or .edf file, such as '../r'"),
        ("record,fold\nr,two\n", "fold of r is 'two', expected a whole number"),
        ("record,patient,fold\nr,p,1\ns,p,2\n", "one patient is in fold 1 .* and 2 .*: a split by fold would leak"),
    ],
)
def test_a_table_that_does_not_fit_is_refused(tmp_path, text, match):
    made(tmp_path / "a", "r")
    made(tmp_path / "a", "s")
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(ValueError, match=match):
        listed(tmp_path / "a", tmp_path / "t.csv")


KILLED = """
import sys
from ecg_jax.data.real import build
build.SHARD_RECORDS = 2
if __name__ == "__main__":
    build.main(sys.argv[1:])
"""


def test_a_build_that_is_killed_goes_on(tmp_path, monkeypatch, capsys):
    for k in range(9):
        made(tmp_path / "a", f"r{k}")
    (tmp_path / "killed.py").write_text(KILLED)
    arguments = ["x", "--source", str(tmp_path / "a"), "--data-dir", str(tmp_path / "b"), "--workers", "1"]
    root = str(Path(build.__file__).parents[3])
    started = subprocess.Popen(
        [sys.executable, str(tmp_path / "killed.py"), *arguments],
        env=os.environ | {"PYTHONPATH": root},
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )
    parts: list[Path] = []
    while not parts:
        assert started.poll() is None
        parts = list(tmp_path.glob("b/.x-100hz.*.parts/[0-9]*.json"))
        time.sleep(0.005)
    os.killpg(started.pid, signal.SIGKILL)
    started.wait()
    assert not (tmp_path / "b" / "x-100hz").exists()
    before = {int(path.name[:5]) for path in parts}
    asked = []
    monkeypatch.setattr(build, "SHARD_RECORDS", 2)
    monkeypatch.setattr(
        build,
        "_make_part",
        lambda *given, make=build._make_part: asked.append(given[2]) or make(*given),
    )
    monkeypatch.setattr(build.concurrent.futures, "ProcessPoolExecutor", InThisProcess)
    assert build.main(arguments) == 0
    assert asked and not before & set(asked)
    pool = open_shards(tmp_path / "b" / "x-100hz")
    assert pool.record_id.tolist() == [f"x/r{k}" for k in range(9)]
    assert sorted(path.name for path in (tmp_path / "b").iterdir()) == ["x-100hz", "x-100hz.exclusions.csv"]


def killed(recordings, **told):
    """Stands for the end of a worker by the kernel, for want of memory."""
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_worker_that_is_killed_is_told_of(tmp_path):
    listed = build.Catalogue(("a", "b"), killed, {"made": "up"})
    with pytest.raises(
        OSError, match=r"was killed, perhaps for want of memory \(3 workers\): the same command goes on"
    ):
        build.build_set(tmp_path / "x-100hz", listed, workers=3, console=Console(quiet=True))
    assert not (tmp_path / "x-100hz").exists()


class InThisProcess(build.concurrent.futures.ThreadPoolExecutor):
    """A pool of one thread, which sees what a test has changed."""

    def __init__(self, _workers, _context, **start):
        super().__init__(1, **start)


@pytest.mark.parametrize("seeds", [range(60), pytest.param(range(60, 2000), marks=pytest.mark.long)], ids=len)
def test_a_damaged_recording_is_read_or_told_of(ecg_data_dir, tmp_path, seeds):
    kinds = ("ludb/data/7", "challenge2021/georgia/E00001", "ptbxl/records500/00000/00001_hr")
    kinds = [kind for kind in kinds if (ecg_data_dir / f"{kind}.hea").is_file()]
    assert len(kinds) > 1
    edf(tmp_path / "edf" / "r.edf", made(tmp_path / "pattern", "r"))
    kinds += (str(tmp_path / "edf" / "r"),)
    told = 0
    for seed in seeds:
        rng = np.random.default_rng(seed)
        kind = kinds[seed % len(kinds)]
        source = copied(ecg_data_dir, tmp_path / f"s{seed}", kind)
        victims = [path for path in sorted(source.iterdir()) if path.suffix in (".hea", ".dat", ".mat", ".edf")]
        victim = victims[rng.integers(len(victims))]
        victim.write_bytes(damaged(victim.read_bytes(), rng))
        (entry,) = listed(source)
        try:
            ecg, _ = read(entry)
        except ValueError as error:
            told += 1
            assert ":" in str(error) and "\n" not in str(error), seed
        else:
            assert ecg.shape == (1000, 12) and ecg.dtype == np.int16 and (np.ptp(ecg, axis=0) > 0).all(), seed
        shutil.rmtree(source)
    assert told > len(seeds) / 4
