"""Further real sets beside PTB-XL: trained on less what the evaluation folds hold, refused where they do not fit."""

import dataclasses
import os
from fractions import Fraction

import numpy as np
import pytest
from pools import made_up_pool
from rich.console import Console

from ecg_jax.data.ecg import SIMULATED
from ecg_jax.data.preprocess import STANDARD
from ecg_jax.data.real import build
from ecg_jax.data.real.recording import kind_of
from ecg_jax.data.real.shards import write_shards
from experiments import data
from experiments.packed import load_packed, pack_data


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
    pack_data(tmp_path / "packed", both)
    packed = load_packed(tmp_path / "packed")
    assert packed.identity == both.identity
    assert [part.source for part in packed.training.parts] == ["ptbxl", "challenge"]
    assert np.array_equal(packed.training.ecg, both.training.ecg)


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
