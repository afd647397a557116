"""Further real sets beside PTB-XL: trained on less what the evaluation folds hold, refused where they do not fit."""

import dataclasses
import io
import json
import os
from fractions import Fraction

import numpy as np
import pytest
from rich.console import Console
from support.synthetic_pools import made_up_pool

from ecg_jax.data.ecg import SIMULATED
from ecg_jax.data.exclusions import kind_of
from ecg_jax.data.preprocess import STANDARD
from ecg_jax.data.real import build
from ecg_jax.data.storage.pool_file import save_pool
from ecg_jax.data.storage.shards import write_shards
from experiments.protocol import data, data_files
from experiments.protocol.data_files import export_data, load_data_files


@pytest.fixture(scope="module")
def challenge(ecg_data_dir, tmp_path_factory):
    """The Challenge's recordings, ten of PTB-XL's among them, as a set that was built."""
    folder = tmp_path_factory.mktemp("built")
    source = ecg_data_dir / "challenge2021" / "ptb-xl"
    assert build.main(["challenge", "--source", str(source), "--data-dir", str(folder), "--workers", "1"]) == 0
    return folder / "challenge-100hz"


def test_another_set_is_trained_on_less_what_the_evaluation_folds_hold(ecg_data_dir, ptbxl_cache, challenge, tmp_path):
    alone = data.load_real(ecg_data_dir, ptbxl_cache, leave_out_flawed=True)
    both = data.load_real(ecg_data_dir, ptbxl_cache, leave_out_flawed=True, more=[challenge])
    assert [part.source for part in both.training.parts] == ["ptbxl", "challenge"]
    assert both.heldout.identity == alone.heldout.identity and both.frozen and both.identity != alone.identity
    left_out = {item.record_id: item.reason for item in both.excluded if item not in alone.excluded}
    assert left_out and all(kind_of(reason) == "same recording" for reason in left_out.values())
    assert all("fold 9 of the evaluation" in reason or "fold 10" in reason for reason in left_out.values())
    trained = set(both.training.record_id[both.training.parts[1].rows])
    assert not trained & left_out.keys() and len(trained) + len(left_out) == 22
    shares = [Fraction(3, 4), Fraction(1, 4)]
    weighted = data.load_real(ecg_data_dir, ptbxl_cache, leave_out_flawed=True, more=[challenge], weights=shares)
    assert [part.weight for part in weighted.training.parts] == shares and weighted.identity != both.identity
    export_data(tmp_path / "packed", both)
    again = load_data_files(tmp_path / "packed")
    assert again.identity == both.identity and again.frozen and again.note == ""
    assert [part.source for part in again.training.parts] == ["ptbxl", "challenge"]
    assert np.array_equal(again.training.ecg, both.training.ecg)


def test_what_does_not_fit_is_refused(ecg_data_dir, ptbxl_cache, tmp_path, monkeypatch):
    pool = made_up_pool(4, name="other")
    write_shards(tmp_path / "steps", [pool], fingerprint=STANDARD.parameters() | {"band_hz": [1.0, 30.0]})
    write_shards(tmp_path / "unknown", [pool], fingerprint={})
    simulated = dataclasses.replace(pool, source=f"other{SIMULATED}")
    write_shards(tmp_path / "simulated", [simulated], fingerprint=STANDARD.parameters())
    for name, match in (
        ("steps", r"band_hz is \[1.0, 30.0\], not \[0.5, 40.0\]: build the set again with those steps"),
        ("unknown", "counts_per_unit is not recorded, not 1000|band_hz is not recorded"),
        ("simulated", "holds other_simulated: simulated ECG is no real set"),
    ):
        with pytest.raises(ValueError, match=match):
            data.load_real(ecg_data_dir, ptbxl_cache, leave_out_flawed=True, more=[tmp_path / name])
    monkeypatch.delitem(os.environ, "ECG_DATA_DIR")
    with pytest.raises(ValueError, match="further real sets are trained on beside PTB-XL"):
        data.load_or_standin(None, tmp_path, 20, Console(quiet=True), [tmp_path / "steps"])


# ---- packed data ---------------------------------------------------------------------------------------------------


def studied(origin: str, others=()):
    """A study's data of forty made-up recordings in ten folds."""
    pool = dataclasses.replace(made_up_pool(40, 7, name="ptbxl"), fold=1 + np.arange(40) % 10)
    return data.split(pool, pool.in_folds((9,)), origin=origin, others=others)


def test_a_pack_broken_off_over_an_older_one_is_no_pack(tmp_path, monkeypatch):
    one, two = studied("one"), studied("two", [made_up_pool(9, 8, name="code15")])
    export_data(tmp_path, one)
    assert load_data_files(tmp_path).identity == one.identity
    with monkeypatch.context() as patch, pytest.raises(OSError, match="full"):
        patch.setattr(data_files, "checksums", lambda path: (_ for _ in ()).throw(OSError("full")))
        export_data(tmp_path, two)  # killed behind its first file
    with pytest.raises(FileNotFoundError, match=r"it has no about\.json; write them with --export-data"):
        load_data_files(tmp_path)
    export_data(tmp_path, one)
    save_pool(tmp_path / "training.npz", two.training)  # as an ecg-jax did that left the old description there
    with pytest.raises(
        ValueError, match=r"training\.npz is not .* of it are not those that the checksums were taken of"
    ):
        load_data_files(tmp_path)


@pytest.mark.parametrize("name", ["training.npz", "heldout.npz", "about.json"])
def test_two_packs_in_one_folder_are_refused(tmp_path, name):
    one, two = studied("one"), studied("two", [made_up_pool(9, 8, name="code15")])
    same_names = dataclasses.replace(two.heldout.pool, ecg=two.heldout.pool.ecg + np.int16(5))
    two = dataclasses.replace(two, heldout=dataclasses.replace(two.heldout, pool=same_names))
    for folder, study in (("one", one), ("two", two)):
        export_data(tmp_path / folder, study)
    (tmp_path / "one" / name).write_bytes((tmp_path / "two" / name).read_bytes())
    with pytest.raises(ValueError, match="of it are not those that the checksums were taken of"):
        load_data_files(tmp_path / "one")
    assert load_data_files(tmp_path / "two").identity == two.identity


@pytest.mark.parametrize(
    ("changed", "match"),
    [
        ({"training.npz": None}, r"about\.json: its description has no training\.npz; an older ecg-jax kept no checks"),
        ({"identity": 7}, r"about\.json: its identity is 7, expected str"),
        ({"patches": "50"}, r"about\.json: its patches is '50', expected int of at least 1"),
        ({"patches": 0}, r"its patches is 0"),
        ({"patches": 10**12}, "do not divide into 1000000000000 patches"),
        ({"heldout.npz": []}, r"its heldout\.npz is \[\], expected dict"),
        ({"response": "0" * 16}, r"heldout\.npz: records and masks are .*, those that were exported were 0000"),
    ],
)
def test_a_description_that_is_none_is_told(tmp_path, changed, match):
    export_data(tmp_path, studied("one"))
    about = json.loads((tmp_path / "about.json").read_text()) | {"checksum": None} | changed
    (tmp_path / "about.json").write_text(
        json.dumps({name: value for name, value in about.items() if value is not None})
    )
    with pytest.raises(ValueError, match=match):
        load_data_files(tmp_path)


def test_a_description_that_was_changed_is_noticed(tmp_path):
    one = studied("one")
    export_data(tmp_path, one)
    about = tmp_path / "about.json"
    about.write_text(about.read_text().replace(one.identity, one.identity[::-1]))
    with pytest.raises(
        ValueError, match=r"about\.json is not what was written: .*export the data again with --export-data"
    ):
        load_data_files(tmp_path)


def test_packed_data_are_held_to_what_a_study_s_data_are(tmp_path):
    one = studied("one")
    ecg = np.array(one.training.ecg)
    ecg[3] = one.heldout.pool.ecg[1]
    object.__setattr__(one, "training", dataclasses.replace(one.training, ecg=ecg))
    export_data(tmp_path, one)
    with pytest.raises(ValueError, match=r"held-out recordings under other names, such as ptbxl/00003"):
        load_data_files(tmp_path)


def test_what_is_left_out_is_told_by_name_and_counted():
    pool = dataclasses.replace(made_up_pool(40, 7, name="ptbxl"), fold=1 + np.arange(40) % 10)
    ecg = pool.ecg.copy()
    ecg[0] = ecg[8]
    found = data.split(dataclasses.replace(pool, ecg=ecg), pool.in_folds((9,)))
    console = Console(record=True, quiet=False, file=io.StringIO(), width=200)
    data.tell_left_out(found, console)
    text = console.export_text()
    assert "left out ptbxl/00000: same recording as ptbxl/00008, fold 9 of the evaluation" in text
    assert f"{len(found.excluded)} recordings are left out; {len(found.training)} are trained on" in text
