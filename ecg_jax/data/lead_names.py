"""Which of the twelve leads a name means: one table for files, command lines and encoders.

Systems name a lead in many ways: "I", "ECG I" (the standard texts of EDF+), "Lead I" (DICOM), "MDC_ECG_LEAD_I"
(ISO/IEEE 11073-10102), "I-Ref" (against the reference), "DI" (Latin America), "V1 (mV)" (columns of a table). A name
that says anything else beside the lead, as "-aVR" or "V1-V2" or MIT-BIH's "MLII", is another signal.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence

from ecg_jax.data.ecg import LEADS

#: Between words. A "-" after a blank and right before a lead is its sign: "Lead -aVR" is the lead turned over.
_BETWEEN = r"(?:[\s_:./]+|\s+-\s+|-\s*)"
#: A lead, with the words in front of it and behind it that leave its meaning as it is.
_NAME = re.compile(
    rf"(?:(?:MDC|DERIVATION|CHANNEL|CH){_BETWEEN}|(?:ECG|EKG|LEAD){_BETWEEN}?)*"
    r"(?P<lead>D?I{1,3}|D[123]|A[\s_.-]?V[\s_.-]?[RLF]|V[\s_.-]?[1-6])"
    rf"(?:{_BETWEEN}(?:REFERENCE|REF|LEAD|ECG|EKG))?[\s_:.]*"
)
#: What DICOM says behind the augmented leads: "aVR, augmented voltage, right" (PS3.16, CID 3001), and a unit.
_AFTER = re.compile(r", *AUGMENTED VOLTAGE, *(RIGHT|LEFT|FOOT)$|\s*[(\[]\s*[MU\u039c]?V\s*[)\]]$")
_MEANT = {lead.upper(): lead for lead in LEADS}
_MEANT |= {"DI": "I", "D1": "I", "DII": "II", "D2": "II", "DIII": "III", "D3": "III"}


def lead_of(name: str) -> str | None:
    """The lead that `name` means, as `LEADS` writes it, whatever its case and blanks; None for any other signal."""
    plain = unicodedata.normalize("NFKC", name).strip(" \t\"'").upper()  # "Ⅱ" is "II"
    found = _NAME.fullmatch(_AFTER.sub("", plain))
    return _MEANT[re.sub(r"[\s_.-]", "", found["lead"])] if found else None


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


#: Picks signals by their names: their places, in the order that is wanted.
Choose = Callable[[Sequence[str]], Sequence[int]]
