"""Statements follow what is met."""

from ecg_jax.data.synthetic.annotate.statements import statements_met
from ecg_jax.data.synthetic.physiology.conditions import Morphology, Rhythm


def test_statements_are_those_of_what_is_met_each_once():
    found = (Rhythm.SINUS, Morphology.STEMI_ANTERIOR, Morphology.OLD_MI_ANTERIOR, Morphology.T_INVERSION)
    assert statements_met(Rhythm.SINUS, found) == ("SR", "AMI", "STE_", "QWAVE", "INVT")
    assert statements_met(Rhythm.SINUS, (Rhythm.SINUS,)) == ("SR", "NORM")
    assert statements_met(Rhythm.ATRIAL_FIBRILLATION, (Rhythm.ATRIAL_FIBRILLATION, Morphology.RBBB)) == (
        "AFIB",
        "CRBBB",
    )


def test_transmural_infarction_is_no_subendocardial_injury():
    for shape in (Morphology.STEMI_ANTERIOR, Morphology.STEMI_INFERIOR, Morphology.STEMI_LATERAL):
        codes = statements_met(Rhythm.SINUS, (Rhythm.SINUS, shape))
        assert not [code for code in codes if code.startswith("INJ")] and "NORM" not in codes
