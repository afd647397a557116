"""Which of the twelve leads a name means: one table for files, command lines and encoders.

Systems name a lead in many ways: "I", "ECG I" (the standard texts of EDF+), "Lead I" (DICOM), "MDC_ECG_LEAD_I"
(ISO/IEEE 11073-10102), "I-Ref" (against the reference), "DI" (Latin America). A name that says anything else beside the
lead, as "-aVR" or "V1-V2" or MIT-BIH's "MLII", is another signal.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

from ecg_jax.data.ecg import LEADS

#: Words in front of a lead's name and behind it that leave its meaning as it is.
_BEFORE = frozenset({"MDC", "ECG", "EKG", "LEAD", "DERIVATION"})
_BEHIND = frozenset({"REF", "REFERENCE", "LEAD"})
_SEPARATORS = re.compile(r"[\s_:.-]+")
#: What DICOM says behind the augmented leads: "aVR, augmented voltage, right" (PS3.16, CID 3001).
_AUGMENTED = re.compile(r", *AUGMENTED VOLTAGE, *(RIGHT|LEFT|FOOT)$")
_MEANT = {lead.upper(): lead for lead in LEADS}
_MEANT |= {"DI": "I", "D1": "I", "DII": "II", "D2": "II", "DIII": "III", "D3": "III"}


def lead_of(name: str) -> str | None:
    """The lead that `name` means, as `LEADS` writes it, whatever its case and blanks; None for any other signal."""
    plain = _AUGMENTED.sub("", unicodedata.normalize("NFKC", name).strip().upper())  # "Ⅱ" is "II"
    words = _SEPARATORS.split(plain)
    while len(words) > 1 and words[0] in _BEFORE:
        words = words[1:]
    if len(words) == 2 and words[1] in _BEHIND:
        words = words[:1]
    return _MEANT.get(words[0]) if len(words) == 1 else None


def lead_order(names: Sequence[str]) -> list[int]:
    """Where each of the twelve leads stands among `names`; further signals are left.

    Raises ValueError, as "leads: details", unless each is there exactly once: two signals that may be meant by one
    lead, such as a rhythm strip under the same name, leave open which one it is.
    """
    meant = [lead_of(name) for name in names]
    lacking = [lead for lead in LEADS if meant.count(lead) != 1]
    if lacking:
        found = ", ".join("".join(c if c.isprintable() else "?" for c in name) for name in names)
        raise ValueError(f"leads: {', '.join(lacking)} not there exactly once; found {found[:300]}")
    return [meant.index(lead) for lead in LEADS]
