"""Rhythms of regional sources: what each kind of beat must look like, and where P waves are."""

import dataclasses
import functools

import numpy as np
import pytest

from ecg_jax.data.synthetic.annotate import criteria
from ecg_jax.data.synthetic.physiology.composition import each
from ecg_jax.data.synthetic.physiology.conditions import Morphology, Rhythm
from ecg_jax.data.synthetic.physiology.kernels import AVF, II, III, V1
from ecg_jax.data.synthetic.physiology.rhythm import Beat
from ecg_jax.data.synthetic.physiology.sampling import Grid
from ecg_jax.data.synthetic.render.version_3 import Recipe, records

SINUS = {Rhythm.SINUS_BRADYCARDIA, Rhythm.SINUS_TACHYCARDIA, Rhythm.SINUS_ARRHYTHMIA}
RATE_HZ, OF_EACH = 250, 24
GRID = Grid(RATE_HZ, 10)


@dataclasses.dataclass(frozen=True)
class Shown:
    """One record without noise."""

    ecg_mv: np.ndarray  # (samples, 12)
    fiducials_s: np.ndarray  # (K, 3, 3)
    beat: np.ndarray  # (K,)
    is_other: np.ndarray
    met: tuple

    def inside(self, wave: int, chosen: np.ndarray) -> np.ndarray:
        """Rows of that wave's fiducials that lie in the record, of the chosen beats."""
        marks = self.fiducials_s[chosen, wave]
        return marks[(marks[:, 0] > 0.1) & (marks[:, 2] < 9.8)]

    def part(self, from_s: float, to_s: float) -> np.ndarray:
        """The samples between two times."""
        return self.ecg_mv[round(from_s * RATE_HZ) : round(to_s * RATE_HZ) + 1]


@functools.cache
def all_records() -> dict[Rhythm, list[Shown]]:
    made_by = Recipe(conditions=each(*Rhythm), noise=None, recorder=None)
    draft, _, ecg, fiducials = records(8, np.arange(OF_EACH * len(Rhythm)), made_by, GRID)
    for onset_s in (draft.train.p_onset_s, draft.train.qrs_onset_s):
        assert (np.diff(onset_s, axis=1) >= 0).all()
    beat, is_other = np.asarray(draft.train.beat), np.asarray(draft.train.is_other)
    found: dict[Rhythm, list[Shown]] = {rhythm: [] for rhythm in Rhythm}
    for i, code in enumerate(np.asarray(draft.conditions.rhythm)):
        sex, age = float(draft.patient.is_female[i]) > 0.5, float(draft.patient.age_years[i])
        typical = criteria.beats_of(ecg[i], RATE_HZ, fiducials[i], beat[i], sex, age)
        met = criteria.met(typical, Rhythm(int(code)))
        found[Rhythm(int(code))].append(Shown(ecg[i], fiducials[i], beat[i], is_other[i], met))
    return found


@pytest.mark.parametrize("rhythm", Rhythm, ids=lambda rhythm: rhythm.name)
def test_a_record_shows_its_rhythm(rhythm):
    shown = all_records()[rhythm]
    assert len(shown) >= 10 and all(np.isfinite(one.ecg_mv).all() for one in shown)
    # Rates below 60 and what the breath does to a young heart are variants of sinus rhythm.
    asked = {rhythm} | (SINUS if rhythm is Rhythm.SINUS else set())
    assert np.mean([bool(asked & set(one.met)) for one in shown]) >= 0.9
    assert max(np.abs(one.ecg_mv[:, :6]).max() for one in shown) < 6.0


def beats_of(rhythm: Rhythm, code: Beat) -> list[tuple[Shown, np.ndarray]]:
    """Every beat of a kind that lies in a record of the rhythm, by the fiducials of its QRS."""
    return [(one, marks) for one in all_records()[rhythm] for marks in one.inside(1, one.beat == code)]


def test_ventricular_beats_are_wide_tall_and_discordant():
    rhythms = {
        Rhythm.VENTRICULAR_PREMATURE: Beat.VENTRICULAR,
        Rhythm.VENTRICULAR_BIGEMINY: Beat.VENTRICULAR,
        Rhythm.AV_BLOCK_3: Beat.VENTRICULAR_ESCAPE,
        Rhythm.PACED_VENTRICULAR: Beat.PACED,
    }
    widths_ms, against, sizes = [], [], []
    beats = [beat for rhythm, code in rhythms.items() for beat in beats_of(rhythm, code)]
    for one, (onset_s, _, end_s) in beats:
        widths_ms.append(1e3 * (end_s - onset_s))
        area = one.part(onset_s, end_s).sum(0)
        lead = np.argmax(np.abs(area))
        after = one.part(end_s + 0.06, end_s + 0.26)[:, lead]
        against.append(np.sign(area[lead]) != np.sign(after[np.argmax(np.abs(after))]))
        sizes.append(np.ptp(one.part(onset_s, end_s), axis=0).max())
    found = np.mean(np.array(widths_ms) >= 120), np.median(widths_ms), np.mean(against), np.median(sizes)
    assert found[0] >= 0.85 and found[1] < 180 and found[2] > 0.9 and found[3] > 1.2, found


def test_the_sinus_node_beats_on_through_a_compensatory_pause():
    with_p = [
        np.isfinite(one.fiducials_s[one.beat == Beat.VENTRICULAR, 0, 0])
        for one in all_records()[Rhythm.VENTRICULAR_PREMATURE]
    ]
    assert np.mean(np.concatenate(with_p)) > 0.9
    for one in all_records()[Rhythm.VENTRICULAR_BIGEMINY]:
        onsets_s = np.sort(one.fiducials_s[:, 0, 0][np.isfinite(one.fiducials_s[:, 0, 0])])
        assert (np.diff(onsets_s) > 0.2).all()


def test_some_early_atrial_beats_are_aberrant_and_none_else():
    rhythms = (Rhythm.ATRIAL_PREMATURE, Rhythm.ATRIAL_COUPLETS, Rhythm.ATRIAL_BIGEMINY, Rhythm.ATRIAL_TRIGEMINY)
    shown = [one for rhythm in rhythms for one in all_records()[rhythm]]
    aberrant = [one.is_other & (one.beat == Beat.ATRIAL) for one in shown]
    assert 0.02 < np.mean([kinds.any() for kinds in aberrant]) < 0.6
    assert not any((one.is_other & (one.beat == Beat.NORMAL)).any() for one in shown)
    widths = [np.ptp(marks) for one, kinds in zip(shown, aberrant) for marks in one.inside(1, kinds)]
    assert np.median(widths) > 0.115


def test_p_waves_from_the_junction_point_up_and_are_no_ischaemia():
    up, shown = [], all_records()[Rhythm.JUNCTIONAL]
    for one in shown:
        marks = one.inside(0, np.isfinite(one.fiducials_s[:, 0, 0]))
        assert Morphology.ISCHAEMIA not in one.met
        if len(marks):
            wave = np.median([one.part(m[0], m[0] + 0.08) - one.part(m[0], m[0])[0] for m in marks[:5]], axis=0)
            up.append(wave[:, [II, III, AVF]].sum() < 0)
    assert np.mean(up) > 0.8


def test_f_waves_are_largest_in_v1_and_flutter_waves_are_saw_teeth_below():
    def between_beats(one: Shown) -> np.ndarray:
        """The samples from after the T waves to before the next QRS complexes, `(samples, 12)`."""
        ends, onsets = one.fiducials_s[:, 2, 2], one.fiducials_s[:, 1, 0]
        gaps = [
            one.part(end + 0.05, start - 0.02) for end, start in zip(ends, onsets[1:]) if 0 < end + 0.2 < start < 10
        ]
        return np.concatenate([gap - gap.mean(0) for gap in gaps]) if gaps else np.zeros((0, 12))

    gaps = [between_beats(one) for one in all_records()[Rhythm.ATRIAL_FIBRILLATION]]
    size = np.sqrt((np.concatenate(gaps) ** 2).mean(0))
    assert size.argmax() == V1 and 0.015 < size[V1] < 0.09
    assert np.isnan([one.fiducials_s[:, 0] for one in all_records()[Rhythm.ATRIAL_FIBRILLATION]]).all()
    flutter = np.concatenate([between_beats(one) for one in all_records()[Rhythm.ATRIAL_FLUTTER_VARIABLE]])
    size = np.sqrt((flutter**2).mean(0))
    assert size[[II, III, AVF]].min() > 0.05 and size[II] > 3 * size[0]
    assert np.corrcoef(flutter[:, II], flutter[:, V1])[0, 1] < -0.2
