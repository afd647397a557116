"""Shards give back what was written, open with TFDS alone, and appear whole or not at all."""

import dataclasses
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds
from support.places import REPOSITORY
from support.ptbxl_layout import ecg_like, write_ptbxl, write_signal, write_z100

from ecg_jax.data.ecg import RecordPool
from ecg_jax.data.exclusions import Exclusion
from ecg_jax.data.real.datasets import prepare
from ecg_jax.data.real.datasets.prepare import prepare_ptbxl
from ecg_jax.data.real.datasets.ptbxl import load_ptbxl
from ecg_jax.data.storage.shards import ShardSource, open_shards, write_shards


def make_pool(count: int = 7) -> RecordPool:
    rng = np.random.default_rng(count)
    return RecordPool(
        source="invented",
        sample_rate_hz=100,
        ecg=rng.integers(-32768, 32768, (count, 100, 12)).astype(np.int16),
        record_id=np.array([f"invented/{i:05d}" for i in range(count)]),
        patient_id=np.arange(count) // 2,
        fold=1 + np.arange(count) % 10,
        unit=np.array(["mV", "NU"])[np.arange(count) % 2],
        labels=tuple(("NORM", "LAFB/LPFB")[: i % 3] for i in range(count)),
    )


def assert_same(one: RecordPool, other: RecordPool) -> None:
    for field in dataclasses.fields(RecordPool):
        a, b = getattr(one, field.name), getattr(other, field.name)
        assert np.array_equal(a, b) if isinstance(a, np.ndarray) else a == b, field.name


def write(folder: Path, pool: RecordPool, size: int = 3, **settings) -> None:
    slices = (pool.take(np.arange(start, min(start + size, len(pool)))) for start in range(0, len(pool), size))
    write_shards(folder, slices, **{"fingerprint": {"table": "abc"}, **settings})


def test_round_trip(tmp_path):
    pool = make_pool()
    write(tmp_path / "shards", pool)
    assert_same(open_shards(tmp_path / "shards"), pool)
    assert len(list((tmp_path / "shards").glob("invented-records.array_record-*-of-00003"))) == 3


def test_random_reads_equal_those_of_the_pool(tmp_path):
    pool = make_pool()
    write(tmp_path / "shards", pool)
    source = ShardSource(tmp_path / "shards")
    indices = np.array([6, 0, 3, 3, 5])
    assert len(source) == len(pool)
    assert np.array_equal(source.read(indices), pool.read(indices))
    assert np.array_equal(source[4], pool[4])
    assert source.read(np.array([], int)).shape == (0, 100, 12)


def test_tfds_opens_them(tmp_path):
    pool = make_pool()
    write(tmp_path / "shards", pool, exclusions=[Exclusion("invented/9", "flat lead I")])
    builder = tfds.builder_from_directory(tmp_path / "shards")
    row = builder.as_data_source("records")[5]
    assert np.array_equal(row["ecg"], pool[5])
    assert row["patient_id"] == pool.patient_id[5]
    assert builder.info.splits["records"].num_examples == len(pool)
    assert builder.info.metadata["counts_per_unit"] == 1000
    assert builder.info.metadata["records_per_unit"] == {"NU": 3, "mV": 4}
    assert builder.info.metadata["amplitude_known"] == {"NU": False, "mV": True}
    assert builder.info.metadata["exclusions"] == [{"record_id": "invented/9", "reason": "flat lead I"}]


def test_tensorflow_is_not_loaded(tmp_path):
    write(tmp_path / "shards", make_pool())
    program = (
        "import sys; from pathlib import Path; from ecg_jax.data.storage.shards import open_shards\n"
        "print(len(open_shards(Path(sys.argv[1]))), 'tensorflow' in sys.modules)"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "shards")]
    root = REPOSITORY
    result = subprocess.run(command, capture_output=True, text=True, cwd=root, check=False)
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == "7 False"


def test_same_records_give_the_same_bytes(tmp_path):
    for name in ("one", "two"):
        write(tmp_path / name / "shards", make_pool())
    for path in (tmp_path / "one" / "shards").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / "shards" / path.name).read_bytes(), path.name


def test_failure_while_writing_leaves_nothing(tmp_path):
    def pools():
        yield make_pool()
        raise OSError("disk gone")

    with pytest.raises(OSError, match="disk gone"):
        write_shards(tmp_path / "shards", pools(), fingerprint={})
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_one_folder_is_refused(tmp_path):
    pool = make_pool()
    with pytest.raises(ValueError, match="sample_rate_hz 250, the first one 100"):
        write_shards(tmp_path / "a", [pool, dataclasses.replace(pool, sample_rate_hz=250)], fingerprint={})
    with pytest.raises(ValueError, match="source 'made-up' is no name for TFDS"):
        write_shards(tmp_path / "a", [dataclasses.replace(pool, source="made-up")], fingerprint={})
    with pytest.raises(ValueError, match="no records"):
        write_shards(tmp_path / "a", [pool.take(np.array([], int))], fingerprint={})
    write(tmp_path / "a", pool)
    with pytest.raises(FileExistsError, match="never written over"):
        write(tmp_path / "a", pool)


def test_other_fingerprint_is_named(tmp_path):
    write(tmp_path / "shards", make_pool(), fingerprint={"table": "abc", "order": 4})
    with pytest.raises(ValueError, match=r"table: abc in the shards, xyz now") as caught:
        open_shards(tmp_path / "shards", fingerprint={"table": "xyz", "order": 4})
    assert "order" not in str(caught.value)


def test_damaged_shards_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="holds no shards"):
        open_shards(tmp_path)
    write(tmp_path / "shards", make_pool())
    path = sorted((tmp_path / "shards").glob("*array_record*"))[1]
    content = path.read_bytes()
    flipped = content.index(b"invented/0000")
    path.write_bytes(content[:flipped] + b"I" + content[flipped + 1 :])
    with pytest.raises(ValueError, match=r"a shard is damaged \(.*hash mismatch"):
        open_shards(tmp_path / "shards")
    path.write_bytes(content[:-100])
    with pytest.raises(ValueError, match=path.name):
        open_shards(tmp_path / "shards")
    path.unlink()
    with pytest.raises(ValueError, match=r": 0 bytes"):
        open_shards(tmp_path / "shards")


def test_prepare_makes_once_and_opens_later(tmp_path, monkeypatch):
    write_ptbxl(tmp_path / "data" / "ptbxl", count=3)
    write_z100(tmp_path / "data" / "ptbxl_z100", (2, 4, 5))
    monkeypatch.setattr(prepare, "SHARD_RECORDS", 2)
    steps = []
    pool = prepare_ptbxl(
        tmp_path / "data", tmp_path / "cache", progress=lambda done, total: steps.append((done, total))
    )
    assert steps == [(2, 5), (4, 5), (5, 5)]
    assert_same(pool, load_ptbxl(tmp_path / "data"))
    monkeypatch.setattr(prepare.ptbxl, "list_joined", None)  # a second call must not look at the recordings
    assert_same(prepare_ptbxl(tmp_path / "data", tmp_path / "cache"), pool)


def test_prepare_notices_other_data(tmp_path):
    write_ptbxl(tmp_path / "ptbxl", count=2)
    prepare_ptbxl(tmp_path, tmp_path / "cache")
    write_ptbxl(tmp_path / "ptbxl", count=3)
    with pytest.raises(ValueError, match=r"other data or settings \(ptbxl_database.csv: .* remove it"):
        prepare_ptbxl(tmp_path, tmp_path / "cache")


def test_prepare_tells_of_exclusions_on_every_call(tmp_path, monkeypatch):
    monkeypatch.setattr(prepare, "SHARD_RECORDS", 1)  # the middle shard has no record left
    write_ptbxl(tmp_path / "ptbxl", count=3)
    ecg = ecg_like(2)
    ecg[:, 7] = 0.25
    write_signal(tmp_path / "ptbxl" / "records500/00000/00002_hr", ecg)
    with pytest.raises(ValueError, match=r"ptbxl/00002: flat lead: V2"):
        prepare_ptbxl(tmp_path, tmp_path / "cache")
    assert not (tmp_path / "cache").exists() or list((tmp_path / "cache").iterdir()) == []
    for _ in range(2):
        excluded = []
        pool = prepare_ptbxl(tmp_path, tmp_path / "cache", on_bad=excluded.append)
        assert pool.record_id.tolist() == ["ptbxl/00001", "ptbxl/00003"]
        assert excluded == [Exclusion("ptbxl/00002", "flat lead: V2 (all samples 0.25)")]
    with pytest.raises(ValueError, match="flat lead: V2"):
        prepare_ptbxl(tmp_path, tmp_path / "cache")
