"""How a study is carried out: no part of what its numbers are."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from ecg_jax.train.input_pipeline import Placement


@dataclasses.dataclass(frozen=True)
class StudyOptions:
    """What a study may use of a machine.

    `placement` is the device's on accelerators and the host's elsewhere, and `pack_size`, how many runs train as one
    program, is measured, unless they are given. With `minutes`, only packs that will be done in them are begun, in
    their order, and these write rows and no checkpoints; what is left then waits for the next start. `profile` is a
    folder for a trace of the first steps. Who is done early waits for the packs of other jobs, to take over what one of
    them leaves behind, unless `wait` is False.
    """

    placement: Placement | None = None
    pack_size: int | None = None
    minutes: float | None = None
    profile: Path | None = None
    wait: bool = True


#: What suits the machine, without an end.
DEFAULT = StudyOptions()
