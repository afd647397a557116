import dataclasses
import json
import zipfile

import numpy as np
import pytest
from support.synthetic_pools import made_up_pool

from ecg_jax.data.ecg import PUBLISHED, Simulated
from ecg_jax.data.storage.arrays import checksums
from ecg_jax.data.storage.pool_file import load_pool, save_pool


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


# ---- files of somebody else ----------------------------------------------------------------------------------------


def written(path, about=(), entries=(), **arrays):
    """A pool of three records at `path`, some of it otherwise."""
    save_pool(path, made_up_pool(3))
    with np.load(path) as stored:
        held = {name: stored[name] for name in stored.files}
    tree = json.loads(str(held["about"])) | dict(about) if isinstance(about, (dict, tuple)) else about
    held |= {"about": np.array(tree if isinstance(tree, str) else json.dumps(tree))} | arrays
    np.savez(path, **{name: array for name, array in held.items() if array is not None})
    with zipfile.ZipFile(path, "a") as archive:
        for name, content in entries:
            archive.writestr(name, content)
    return path


def header(shape: str, descr: str = "'<i2'") -> bytes:
    text = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode()


STRANGE = {
    "about-list": (dict(about="[]"), "its description is list, no set of fields"),
    "about-deep": (dict(about="[" * 100_000), "recursion"),
    "about-number": (dict(about="7"), "its description is int"),
    "format-text": (dict(about={"format": "1"}), "its format is '1', expected int of at least 1"),
    "format-0": (dict(about={"format": 0}), "its format is 0"),
    "rate-text": (dict(about={"sample_rate_hz": "100"}), "its sample_rate_hz is '100', expected int of at least 1"),
    "rate-0": (dict(about={"sample_rate_hz": 0}), "its sample_rate_hz is 0"),
    "rate-true": (dict(about={"sample_rate_hz": True}), "its sample_rate_hz is True"),
    "rate-large": (dict(about={"sample_rate_hz": 10**9}), "its sample_rate_hz is 1,000,000,000"),
    "source": (dict(about={"source": None}), "its source is None, expected str"),
    "labels-few": (dict(about={"labels": [[]]}), "its labels are 1 entries for 3 records"),
    "labels-numbers": (dict(about={"labels": [[], [1], []]}), "hold other things than codes"),
    "simulated": (dict(about={"simulated": "T2"}), "no set of fields"),
    "origins-range": (
        dict(about={"origins": {"names": ["a"], "weights": None}}, origin=np.array([0, 1, 0])),
        "origin names sources 0 to 1 of 1",
    ),
    "origins-weights": (
        dict(about={"origins": {"names": ["a", "b"], "weights": ["1/0", "1e999999999"]}}, origin=np.array([0, 1, 0])),
        "expected ratios such as 1/3",
    ),
    "no-origin": (dict(about={"origins": {"names": ["a"], "weights": None}}), "it lacks origin"),
    "more": (dict(other=np.zeros(3)), "holds other besides"),
    "less": (dict(fold=None), "it lacks fold"),
    "ids-few": (dict(record_id=np.array(["a"])), r"record_id is <U1\(1,\), expected numpy kind 'U' of shape \(3\)"),
    "ids-numbers": (dict(record_id=np.arange(3)), "record_id is int64"),
    "patients-floats": (dict(patient_id=np.zeros(3)), "patient_id is float64"),
    "ecg-floats": (dict(ecg=np.zeros((3, 1000, 12))), r"ecg is float64\(3, 1000, 12\), expected int16"),
    "ecg-no-samples": (dict(ecg=np.zeros((3, 0, 12), np.int16)), r"ecg is int16\(3, 0, 12\), expected int16"),
    "ecg-leads": (dict(ecg=np.zeros((3, 1000, 8), np.int16)), r"ecg is int16\(3, 1000, 8\)"),
    "file-beside": (dict(entries=[("run.sh", b"rm")]), "it holds .*run.sh"),
    "negative": (dict(ecg=None, entries=[("ecg.npy", header("(-3, 1000, 12)"))]), r"of shape \(-3, 1000, 12\)"),
    "huge": (dict(ecg=None, entries=[("ecg.npy", header("(10**12, 1000, 12)"))]), "ecg|malformed"),
    "vast": (
        dict(ecg=None, entries=[("ecg.npy", header("(1000000000000, 1000, 12)"))]),
        "24,000,000,000,000,000 bytes, the file holds 0",
    ),
    "objects": (dict(ecg=None, entries=[("ecg.npy", header("(3, 1000, 12)", "'|O'"))]), "an array of object"),
    "rows": (
        dict(ecg=None, entries=[("ecg.npy", header("(3,)", "[('a', '<i2')]"))]),
        "no numbers, no text",
    ),
}


@pytest.mark.parametrize("kind", STRANGE)
def test_what_is_no_pool_is_one_clear_error(tmp_path, kind):
    how, match = STRANGE[kind]
    path = written(tmp_path / "pool.npz", **how)
    with pytest.raises(ValueError, match=match) as refused:
        load_pool(path)
    assert str(refused.value).startswith(f"{path} is not a whole pool of records (")


def test_a_npy_under_the_name_of_an_npz_and_an_empty_archive_are_refused(tmp_path):
    path = tmp_path / "pool.npz"
    with path.open("wb") as file:
        np.save(file, np.zeros(9))
    with pytest.raises(ValueError, match="not a zip file"):
        load_pool(path)
    zipfile.ZipFile(path, "w").close()
    with pytest.raises(ValueError, match="it has no array about"):
        load_pool(path)


@pytest.mark.parametrize("name", ["record_id", "about", "unit"])
def test_nothing_compressed_is_inflated(tmp_path, name, monkeypatch):
    """Fifty megabytes of nothing in fifty kilobytes."""
    path = written(tmp_path / "pool.npz", **({name: None} if name != "about" else {}))
    bomb = header(f"({1 << 20},)", "'<U12'") + bytes(48 << 20)
    if name == "about":
        with np.load(path) as stored:
            held = {key: stored[key] for key in stored.files if key != "about"}
        np.savez(path, **held)
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(f"{name}.npy", bomb)
    assert path.stat().st_size < 1 << 20
    monkeypatch.setattr(zipfile.ZipExtFile, "read", None)
    with pytest.raises(ValueError, match=f"its {name} are compressed"):
        load_pool(path)


def test_checksums_tell_one_pool_from_another(tmp_path):
    one, two = tmp_path / "one.npz", tmp_path / "two.npz"
    pool = made_up_pool(5)
    save_pool(one, pool)
    save_pool(two, dataclasses.replace(pool, ecg=pool.ecg + np.int16(1), fold=pool.fold + 1))
    assert set(checksums(one)) == {"about", "ecg", "record_id", "patient_id", "fold", "unit"}
    assert len(load_pool(one, checksums(one))) == 5
    with pytest.raises(ValueError, match=r"two\.npz is not .* \(ecg, fold of it are not those that the checksums"):
        load_pool(two, checksums(one))


def test_what_made_simulated_records_comes_back(tmp_path):
    pool = dataclasses.replace(made_up_pool(3), simulated=Simulated("T1d", PUBLISHED))
    save_pool(tmp_path / "pool.npz", pool)
    assert load_pool(tmp_path / "pool.npz").simulated == pool.simulated
