"""The known overlaps of the sample are found, all of them, and nothing else among all pairs of its recordings."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import wfdb
from scipy import signal
from support.synthetic_pools import made_up_pool

from ecg_jax.data import preprocess
from ecg_jax.data.ecg import LEADS, RecordPool
from ecg_jax.data.real.datasets import ptbxl
from ecg_jax.data.real.quality import leakage
from ecg_jax.data.real.quality.leakage import find_matches, find_repeats, signature, similarity, without_evaluation

#: Published twice, byte for byte: the same recording under two ids, one of them under two patients and in two folds.
REPEATED = {
    ("ptbxl/00137", "ptbxl/00138"),
    ("ptbxl/00143", "ptbxl/00144"),
    ("ptbxl/00145", "ptbxl/00463"),
    ("ptbxl/00456", "ptbxl/00457"),
    ("ptbxl/00459", "ptbxl/00460"),
}
#: Ids of PTB-XL, among those held here, that the Challenge repeats as HR…; 9 is held raw and z-scored: 12 pairs in all.
IN_CHALLENGE = [*range(1, 11), 6005]


def pool_of(source: str, names, ecg) -> RecordPool:
    count = len(names)
    return RecordPool(
        source=source,
        sample_rate_hz=100,
        ecg=np.stack(ecg),
        record_id=np.array([f"{source}/{name}" for name in names]),
        patient_id=np.arange(count),
        fold=np.zeros(count, np.int64),
        unit=np.full(count, "mV"),
        labels=((),) * count,
    )


def read(stem: Path, start_s: float = 0.0) -> np.ndarray:
    """10 s of a WFDB record, leads by name, through the chain at 100 Hz."""
    record = wfdb.rdrecord(str(stem))
    order = [[name.upper() for name in record.sig_name].index(lead.upper()) for lead in LEADS]
    start = round(start_s * record.fs)
    cut = record.p_signal[start : start + 10 * record.fs, order]
    return preprocess.apply_chain(cut[None], int(record.fs), 100)[0]


@pytest.fixture(scope="module")
def raw(ecg_data_dir) -> RecordPool:
    return ptbxl.read_ptbxl(ecg_data_dir)


@pytest.fixture(scope="module")
def scored(ecg_data_dir) -> RecordPool:
    return ptbxl.read_ptbxl_z100(ecg_data_dir)


@pytest.fixture(scope="module")
def others(ecg_data_dir) -> dict[str, RecordPool]:
    """LUDB and the Challenge's families, the first 10 s of each record."""
    folders = [ecg_data_dir / "ludb" / "data", *sorted((ecg_data_dir / "challenge2021").glob("*/"))]
    stems = {folder: sorted(path.with_suffix("") for path in folder.glob("*.hea")) for folder in folders}
    return {
        folder.name: pool_of(folder.name, [stem.name for stem in found], [read(stem) for stem in found])
        for folder, found in stems.items()
    }


def named(first: RecordPool, second: RecordPool, matches) -> set[tuple[str, str]]:
    return {(str(first.record_id[match.first]), str(second.record_id[match.second])) for match in matches}


def test_ptb_xl_inside_the_challenge_is_found_whole_and_alone(raw, scored, others):
    challenge, found = others["ptb-xl"], set()
    for pool in (raw, scored):
        found |= named(challenge, pool, find_matches(challenge, 100, pool, 100))
    assert found == {(f"ptb-xl/HR{number:05d}", f"ptbxl/{number:05d}") for number in IN_CHALLENGE}


def test_the_z_scored_sample_of_a_raw_record_is_found(raw, scored):
    both = set(raw.record_id) & set(scored.record_id)
    found = named(raw, scored, find_matches(raw, 100, scored, 100))
    assert len(both) == 34 and {pair for pair in found if pair[0] == pair[1]} == {(name, name) for name in both}
    assert {pair for pair in found if pair[0] != pair[1]} <= REPEATED | {(b, a) for a, b in REPEATED}


def test_all_pairs_held_here_hold_no_false_match(raw, scored, others):
    pools = [raw, scored, *others.values()]
    names = np.concatenate([pool.record_id for pool in pools])
    signatures = np.concatenate([signature(pool.ecg, 100) for pool in pools])
    alike = similarity(signatures, signatures)
    pairs = [(str(names[i]), str(names[j])) for i, j in zip(*np.nonzero(np.triu(alike, 1) >= leakage.THRESHOLD))]
    twins = {("georgia/E07509", "georgia/E07510"), *REPEATED}
    challenge = {(f"ptbxl/{number:05d}", f"ptb-xl/HR{number:05d}") for number in IN_CHALLENGE}
    same = [pair for pair in pairs if pair[0] == pair[1]]
    assert len(same) == 34 and {pair for pair in pairs if pair[0] != pair[1]} == twins | challenge
    different = np.triu(np.ones_like(alike, bool), 1)
    different[np.triu(alike, 1) >= leakage.THRESHOLD] = False
    assert different.sum() > 2.7e6
    # What lies between is empty: 0.825 among different recordings, 0.9999 among the same.
    assert alike[different].max() < 0.83 and min(alike[np.triu(alike, 1) >= leakage.THRESHOLD]) > 0.9999


def test_recordings_that_ptb_xl_holds_twice(raw):
    assert named(raw, raw, find_repeats(raw)) == REPEATED


@pytest.mark.parametrize("rate_hz", [250, 257, 400, 500])
@pytest.mark.parametrize("gain", [0.2, 4.0])
def test_another_rate_and_gain_change_nothing(rate_hz, gain, raw):
    some = raw.take(np.arange(12, 52))
    other = np.rint(gain * signal.resample_poly(some.ecg.astype(float), rate_hz, 100, axis=1)).clip(-32768, 32767)
    elsewhere = dataclasses.replace(some, ecg=other[:, : 10 * rate_hz].astype(np.int16), sample_rate_hz=rate_hz)
    matches = find_matches(elsewhere, rate_hz, some, 100)
    assert [(match.first, match.second) for match in matches] == [(i, i) for i in range(40)]
    assert min(match.similarity for match in matches) > 0.99


def test_noise_of_a_tenth_of_the_signals_energy_changes_nothing(raw):
    some = raw.take(np.arange(12, 52))
    noise = np.random.default_rng(0).normal(size=some.ecg.shape) * some.ecg.std(1, keepdims=True) * 10**-0.5
    noisy = dataclasses.replace(some, ecg=(some.ecg + noise).clip(-32768, 32767).astype(np.int16))
    assert [(match.first, match.second) for match in find_matches(noisy, 100, some, 100)] == [(i, i) for i in range(40)]


def test_s0001_cut_at_another_moment_is_found_by_its_lag(ecg_data_dir, others):
    """The publisher's own copy, s0010_re, is not among our files; a copy cut elsewhere stands for it."""
    stem = ecg_data_dir / "challenge2021" / "ptb" / "S0001"
    later = pool_of("elsewhere", ["s0010_re"], [read(stem, start_s=3.337)])
    assert find_matches(later, 100, others["ptb"], 100) == []
    (match,) = find_matches(later, 100, others["ptb"], 100, max_lag_s=4)
    assert others["ptb"].record_id[match.second] == "ptb/S0001"
    assert match.lag_s == pytest.approx(-3.34, abs=0.011) and match.similarity > 0.9


def test_pretraining_leaves_out_what_the_evaluation_holds(raw, others):
    evaluation = raw.in_folds((9, 10))
    held = {int(record[6:]) for record in evaluation.record_id}
    kept, excluded = without_evaluation(others["ptb-xl"], evaluation)
    expected = {f"ptb-xl/HR{number:05d}" for number in IN_CHALLENGE if number in held}
    assert expected and {exclusion.record_id for exclusion in excluded} == expected
    assert not expected & set(kept.record_id) and len(kept) == len(others["ptb-xl"]) - len(expected)
    assert all("same recording as ptbxl/" in item.reason and "of the evaluation" in item.reason for item in excluded)
    assert without_evaluation(kept, evaluation)[1] == ()


def test_a_raw_recording_is_its_own_filtered_copy(ecg_data_dir, raw):
    """As they were recorded, wander and ends and all, at 500 Hz and as the publisher's own files at 100 Hz."""
    sound = set(raw.record_id)
    listed = [recording for recording in ptbxl.list_raw(ecg_data_dir)[::5] if recording.record_id in sound]
    mine = raw.take(np.flatnonzero(np.isin(raw.record_id, [recording.record_id for recording in listed])))
    wander_mv = np.stack([ptbxl.read_signal(recording) for recording in listed])
    published = [recording.signal for recording in listed]
    low_mv = [
        wfdb.rdrecord(str(path).replace("records500", "records100").replace("_hr", "_lr")).p_signal
        for path in published
    ]
    kept = signature(mine.ecg, 100)
    for ecg, rate_hz in ((wander_mv, 500), (-wander_mv, 500), (np.stack(low_mv), 100)):
        alike = similarity(signature(ecg, rate_hz), kept)
        assert np.diag(alike).min() > 0.97
        twins = {tuple(sorted((str(mine.record_id[i]), str(mine.record_id[j])))) for i, j in np.argwhere(alike > 0.83)}
        assert {pair for pair in twins if pair[0] != pair[1]} <= REPEATED


def test_a_raw_copy_of_a_z_scored_record_is_found(ecg_data_dir, scored):
    folder = ecg_data_dir.parent / "real_more" / "challenge2021_more" / "ptb-xl"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there")
    names = sorted(path.stem for path in folder.rglob("HR*.hea"))
    (stem,) = [path.with_suffix("") for path in folder.rglob("HR19293.hea")]
    record = wfdb.rdrecord(str(stem))
    raw_mv = record.p_signal[: 10 * record.fs]
    alike = similarity(signature(raw_mv[None], int(record.fs)), signature(scored.ecg, 100))[0]
    assert len(names) == 17 and scored.record_id[alike.argmax()] == "ptbxl/19293" and alike.max() > 0.99
    assert np.sort(alike)[-2] < 0.8


def test_records_of_another_length_are_not_compared():
    pool = made_up_pool(2)
    with pytest.raises(ValueError, match="records of 8 s and of 10 s: cut the longer ones"):
        find_matches(dataclasses.replace(pool, ecg=pool.ecg[:, :800]), 100, pool, 100)


def test_leads_that_are_missing_do_not_count():
    pool = made_up_pool(6)
    two = pool.ecg.copy()
    two[:, :, [lead for lead in range(12) if lead not in (1, 6)]] = 0  # II and V1 are left
    one = np.where(np.arange(12) == 1, pool.ecg, 0)
    first = signature(pool.ecg, pool.sample_rate_hz)
    assert np.diag(similarity(first, signature(two, pool.sample_rate_hz))) == pytest.approx(1, abs=1e-5)
    assert (similarity(first, signature(one, pool.sample_rate_hz)) == -1).all()
    assert not signature(np.full_like(pool.ecg, 7), pool.sample_rate_hz).any()


def test_a_lag_of_more_than_half_a_record_is_refused():
    pool = made_up_pool(2)
    with pytest.raises(ValueError, match="max_lag_s is 6: at most half of a record, 5 s"):
        find_matches(pool, 100, pool, 100, max_lag_s=6)
