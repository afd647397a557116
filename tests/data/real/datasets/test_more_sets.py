"""Five more real sets, where they lie beside the folder of real recordings: how many records, and why not others."""

from collections import Counter
from pathlib import Path

import pytest

from ecg_jax.data.exclusions import kind_of
from ecg_jax.data.real.datasets.catalogue import Output
from ecg_jax.data.real.datasets.registry import list_set
from ecg_jax.data.real.quality import measures


@pytest.fixture(scope="module")
def more(ecg_data_dir) -> Path:
    if not (ecg_data_dir.parent / "real_more").is_dir():
        pytest.skip("there is no folder real_more beside ECG_DATA_DIR")
    return ecg_data_dir.parent / "real_more"


@pytest.mark.parametrize(
    ("folder", "name", "table", "kept", "left_out", "notes"),
    [
        ("challenge2021_more", "c", "challenge2021_more.csv", 105, {"flat lead": 1}, ("no patient for 89 of 106",)),
        ("challenge2025", "c", "challenge2025.csv", 43, {"too short": 155, "amplitude": 2}, ("no patient for 200 of",)),
        ("code15_sample", "c", "code15_sample.csv", 4, {"too short": 6}, ("read 'exam_id' as record",)),
        ("sph_sample", "sph", None, 9, {}, ()),
        pytest.param(
            "challenge2011",
            "c",
            "set-a.csv",
            765,
            {"amplitude": 79, "flat lead": 21},  # 20 of the 21 are unacceptable to its annotators too
            ("no recording is here for 135 of 1,000",),
            marks=pytest.mark.long,
        ),
    ],
)
def test_a_real_set_is_read_with_its_table(more, folder, name, table, kept, left_out, notes):
    listed = list_set(name, more / folder, Output(), None if table is None else more / folder / table)
    excluded = []
    pool = listed.read(listed.recordings, on_bad=excluded.append)
    assert len(pool) == kept and Counter(kind_of(item.reason) for item in excluded) == left_out
    assert not any(str(more) in item.reason for item in excluded)
    told = "\n".join(listed.notes)
    assert all(note in told for note in notes)
    noticed = any("largest limb lead" in note for note in measures.amplitude_notes(measures.per_record(pool)))
    assert noticed == (folder in ("challenge2025", "code15_sample"))  # both of CODE-15%
