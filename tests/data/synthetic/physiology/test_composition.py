"""Which morphologies one heart may have at once, and mixes of such hearts."""

import numpy as np
import pytest

from ecg_jax.data.synthetic.physiology.composition import (
    HEART_PREVALENCE,
    MAY_JOIN,
    TOGETHER,
    each,
    flags_of,
    sample_heart_conditions,
    together,
)
from ecg_jax.data.synthetic.physiology.condition_mix import PREVALENCE, only
from ecg_jax.data.synthetic.physiology.conditions import CAN_JOIN, Morphology, Rhythm


def drawn(mix, draws=400):
    picks = (np.arange(draws) + 0.5) / draws
    drawn = [sample_heart_conditions(pick, mix.table()) for pick in picks.astype(np.float32)]
    found = [(one.rhythm, one.flags) for one in drawn]
    return np.array([int(rhythm) for rhythm, _ in found]), np.stack([flags for _, flags in found])


def test_together_is_one_kind_of_heart_and_each_is_several():
    rhythm, flags = drawn(together(Morphology.RBBB, "lafb", Rhythm.ATRIAL_FIBRILLATION), 8)
    assert (rhythm == Rhythm.ATRIAL_FIBRILLATION).all()
    assert (flags == flags_of(Morphology.RBBB, Morphology.LAFB)).all() and flags.sum(1).max() == 2
    _, flags = drawn(each(Morphology.RBBB, "LAFB", "normal"), 9)
    np.testing.assert_array_equal(sorted(flags.sum(1)), [0] * 3 + [1] * 6)
    assert flags[:, Morphology.RBBB].sum() == flags[:, Morphology.LAFB].sum() == 3


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (lambda: together("RBBB", "LBBB"), "no heart has RBBB and LBBB at once: with RBBB take one of LAFB"),
        (lambda: flags_of(Morphology.LVH, Morphology.LOW_VOLTAGE), "LVH and LOW_VOLTAGE"),
        (lambda: together("LBBBB"), "unknown condition 'LBBBB'"),
        (lambda: together(), "an empty set"),
        (lambda: each(Rhythm.PACED_DUAL, Morphology.LVH), "no record can show PACED_DUAL with LVH"),
    ],
)
def test_what_no_heart_has_is_refused_with_what_there_is(make, complaint):
    with pytest.raises(ValueError, match=complaint):
        make()


def test_a_name_is_a_condition():
    assert only("LBBB") == only(Morphology.LBBB) != only(Morphology.NORMAL)
    with pytest.raises(ValueError, match="unknown condition 'LBB'"):
        only("LBB")


def test_the_table_is_symmetric_and_leaves_what_medicine_joins():
    np.testing.assert_array_equal(MAY_JOIN, MAY_JOIN.T)
    assert MAY_JOIN[Morphology.NORMAL].all() and MAY_JOIN.diagonal().all()
    for group in TOGETHER:
        flags_of(*group)


def test_prevalence_keeps_the_shares_of_first_morphologies_and_joins_no_rhythm_that_cannot_show_them():
    joint, groups = HEART_PREVALENCE.probabilities(), HEART_PREVALENCE.all_groups()
    assert joint.sum() == pytest.approx(1.0) and joint.min() >= 0
    share = {s: w / sum(PREVALENCE.morphologies) for s, w in zip(Morphology, PREVALENCE.morphologies)}
    of_lvh = sum(joint[Rhythm.SINUS, i] for i, group in enumerate(groups) if group[:1] == (Morphology.LVH,))
    assert of_lvh == pytest.approx(joint[Rhythm.SINUS].sum() * share[Morphology.LVH])
    at = groups.index((Morphology.RVH, Morphology.RIGHT_ATRIAL_ENLARGEMENT))
    assert joint[Rhythm.ATRIAL_FIBRILLATION, at] == 0 < joint[Rhythm.SINUS, at]
    assert not CAN_JOIN[Rhythm.ATRIAL_FIBRILLATION, Morphology.RIGHT_ATRIAL_ENLARGEMENT]
