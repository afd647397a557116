"""SCP-ECG statements of what a record of version 3 shows: those of the criteria that it meets, whatever was intended.

Both are kept: `Annotated.met` (and these statements) say what the signal shows; the heart's flags, and the severity of
each of its morphologies (`sources.HeartState.severity`), what was asked for.
"""

from __future__ import annotations

from collections.abc import Iterable

from ecg_jax.data.synthetic.annotate.criteria import is_normal
from ecg_jax.data.synthetic.physiology.conditions import SCP_CODES, Condition, Morphology, Rhythm

#: In acute transmural infarction the statement is the infarction's, and ST elevation is described (STE_): INJAS, INJIN
#: and INJLA, which version 2 gives, mean subendocardial injury, as ISC_ with ST depression does.
MET_CODES: dict[Condition, tuple[str, ...]] = SCP_CODES | {
    Morphology.STEMI_ANTERIOR: ("AMI", "STE_"),
    Morphology.STEMI_INFERIOR: ("IMI", "STE_"),
    Morphology.STEMI_LATERAL: ("LMI", "STE_"),
}


def statements_met(rhythm: Rhythm, found: Iterable[Condition]) -> tuple[str, ...]:
    """The statements of the criteria `found` (as `criteria.met` gives them), each once; NORM where none is abnormal."""
    found = tuple(found)
    codes = tuple(dict.fromkeys(code for condition in (rhythm, *found) for code in MET_CODES[condition]))
    return (*codes, "NORM") if is_normal(rhythm, Morphology.NORMAL, found) else codes
