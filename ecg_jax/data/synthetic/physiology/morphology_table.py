"""Shapes of disease as data: one `Edit` for each morphology, stacked into one table that a code looks up.

Directions, widths and amplitudes are design: they draw the patterns that the cited definitions describe. Amplitudes
that a definition sets are solved for in each record (`Target`), so that the record meets it with a margin.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from ecg_jax.data.synthetic.constants import declare
from ecg_jax.data.synthetic.physiology.conditions import Conditions, Morphology
from ecg_jax.data.synthetic.physiology.kernels import AVF, AVL, II, V1, V2, V3, V4, V5, V6, I
from ecg_jax.data.synthetic.randomness.draws import cut

Vector = tuple[float, float, float]
#: Centre and width in ms from any origin, and the vector in mV: X left, Y inferior, Z posterior.
Kernel = tuple[float, float, float, float, float]
UNUSED: Kernel = (50.0, 10.0, 0.0, 0.0, 0.0)
#: Magnitude at which a complex begins and ends.
QRS_THRESHOLD_MV, P_THRESHOLD_MV = 0.02, 0.01

#: The QRS complex of Sameni et al. 2007 (`morphology.VECTOR_MV`), turned 20° backwards about the head-foot axis: their
#: subject's transition lies at V2, the normal one at V3 to V4 (design). The septum's first forces, which are large in
#: that subject, point forwards and a little against the main axis, and the frontal loop is narrower (design): small q
#: waves at every axis.
NORMAL_QRS: tuple[Kernel, ...] = (
    (-24.0, 7.0, -0.0400, -0.0200, -0.4200),
    (-9.0, 9.3, 0.9627, 0.2900, 0.3683),
    (-1.0, 4.3, 0.4703, 0.1900, 0.1307),
    (8.0, 5.3, 0.7990, 0.0000, 0.2209),
    (14.0, 8.2, -0.1608, -0.1900, 0.4584),
)
#: P: the right atrium to the left, down and forwards, then the left atrium to the left and backwards (design).
NORMAL_P: tuple[Kernel, ...] = ((40.0, 15.0, 0.067, 0.120, -0.080), (68.0, 16.0, 0.080, 0.087, -0.005))
#: The directions of the T wave's three kernels (design; their sizes are scaled).
NORMAL_T: tuple[Vector, ...] = ((0.42, 0.28, -0.31), (0.45, 0.30, -0.25), (0.48, 0.31, -0.15))


@dataclasses.dataclass(frozen=True)
class Target:
    """What a kernel must reach in every one of some leads, with the sign given: an amplitude drawn from a range, mV."""

    leads: tuple[int, ...]
    sign: int
    range_mv: tuple[float, float]


@dataclasses.dataclass(frozen=True)
class Voltage:
    """Limits of measures of the QRS complex, each a range drawn from: lower bound, upper bound (None: unbounded).

    In mV but `cornell`, R aVL + S V3 relative to 2.8 mV in men and 2.0 mV in women.
    """

    limb: tuple[float, float] = (0.65, 9.0)  # peak to peak, the largest of six leads
    precordial: tuple[float, float] = (1.2, 9.0)
    cornell: tuple[float, float] = (0.0, 9.0)
    sokolow: tuple[float, float] = (0.0, 9.0)
    r_v1: tuple[float, float] = (0.0, 9.0)


#: What separates a normal QRS complex from low voltage and from hypertrophy, with a margin.
WITHIN_NORMAL = Voltage(cornell=(0.0, 0.85), sokolow=(0.0, 3.1), r_v1=(0.0, 0.6))


@dataclasses.dataclass(frozen=True)
class Edit:
    """What one morphology makes of a beat. The QRS table is in ms from any origin and is scaled to the patient's."""

    qrs: tuple[Kernel, ...] = NORMAL_QRS
    # Three more QRS kernels, which do not turn with the patient's axis. The last one is no part of the QRS duration.
    first: Kernel = UNUSED
    late: Kernel = UNUSED
    j_wave: Kernel = UNUSED
    # Solve the size of `first` or `j_wave` for it; times of that kernel are shares of the QRS duration.
    first_target: Target | None = None
    j_target: Target | None = None
    p: tuple[Kernel, ...] = NORMAL_P
    p_target: Target | None = None  # of the second P kernel for the sign -1, of both for +1
    voltage: Voltage = WITHIN_NORMAL
    spread: float = 1.0  # of the population's variation of shape and tilt
    t_keep: tuple[float, float] = (1.0, 1.0)  # how much of the normal T wave remains
    t_add: Vector = (0.0, 0.0, 0.0)
    t_target: Target | None = None
    st: Vector = (0.0, 0.0, 0.0)
    st_target: Target | None = None
    st_sexed: bool = False  # the target is relative to the limit in V2–V3 by sex and age


_WITHOUT_SEPTUM = (*NORMAL_QRS[1:], UNUSED)
_HALF_P = tuple((c, w, 0.5 * x, 0.5 * y, 0.5 * z) for c, w, x, y, z in NORMAL_P)
_STRAIN = Voltage()

#: AHA: AHA/ACCF/HRS recommendations 2009 (Circulation 119:e235, e241, e251). MI: Fourth Universal Definition of
#: Myocardial Infarction, Circulation 138:e618, 2018.
EDITS: dict[Morphology, Edit] = {
    Morphology.NORMAL: Edit(),
    Morphology.RBBB: Edit(
        qrs=(
            (14.0, 6.0, -0.16, 0.10, -0.33),
            (34.0, 8.0, 1.05, 0.42, 0.30),
            (46.0, 8.0, 0.45, 0.10, 0.42),
            UNUSED,
            UNUSED,
        ),
        late=(83.0, 15.0, -0.52, 0.02, -0.50),
        voltage=_STRAIN,
        spread=0.6,
        t_keep=(0.5, 0.8),
        t_add=(0.16, 0.04, 0.36),
        st=(0.05, 0.0, 0.10),
        st_target=Target((V2,), -1, (0.0, 0.06)),
    ),
    Morphology.LBBB: Edit(
        qrs=(
            (20.0, 9.0, 0.22, 0.08, -0.08),
            (56.0, 14.0, 0.66, 0.12, 1.10),
            (77.0, 14.0, 0.38, 0.05, 0.86),
            (97.0, 14.0, 0.95, 0.02, 1.02),
            (120.0, 10.0, 0.12, -0.05, 0.45),
        ),
        voltage=Voltage(limb=(0.8, 9.0), precordial=(1.6, 9.0)),
        spread=0.5,
        t_keep=(0.0, 0.0),
        t_add=(-0.33, -0.04, -0.50),
        st=(-0.25, -0.03, -0.50),
        st_target=Target((V2,), 1, (0.12, 0.28)),
    ),
    Morphology.LAFB: Edit(
        qrs=(
            (14.0, 6.0, -0.12, 0.22, -0.22),
            (46.0, 9.0, 0.82, -0.34, 0.15),
            (60.0, 9.0, 0.34, -0.36, 0.45),
            (74.0, 6.5, -0.08, -0.15, 0.22),
            UNUSED,
        ),
        spread=0.6,
    ),
    Morphology.LPFB: Edit(
        qrs=(
            (34.0, 8.0, 0.60, 0.45, 0.22),
            (50.0, 9.0, -0.42, 0.85, 0.50),
            (66.0, 8.0, -0.25, 0.35, 0.30),
            UNUSED,
            UNUSED,
        ),
        first=(14.0, 6.5, 0.22, -0.30, -0.22),
        spread=0.6,
    ),
    Morphology.WPW: Edit(
        qrs=tuple((1.15 * c + 78.0, 1.25 * w, x, y, z) for c, w, x, y, z in _WITHOUT_SEPTUM),
        first=(36.0, 13.0, 0.36, 0.14, -0.20),
        spread=0.6,
        t_keep=(0.1, 0.5),
        t_add=(-0.22, -0.10, 0.06),
        st=(-0.4, -0.15, 0.0),
        st_target=Target((V5,), -1, (0.02, 0.08)),
        voltage=_STRAIN,
    ),
    Morphology.STEMI_ANTERIOR: Edit(
        t_keep=(0.8, 1.3),
        t_add=(0.15, -0.05, -0.25),
        st=(0.35, -0.22, -0.90),
        st_target=Target((V2, V3), 1, (1.5, 2.6)),
        st_sexed=True,
    ),
    Morphology.STEMI_INFERIOR: Edit(
        t_keep=(0.8, 1.1),
        t_add=(-0.08, 0.16, 0.0),
        st=(-0.18, 0.95, 0.20),
        st_target=Target((II, AVF), 1, (0.17, 0.40)),
    ),
    Morphology.STEMI_LATERAL: Edit(
        t_keep=(0.8, 1.1),
        t_add=(0.15, -0.05, 0.06),
        st=(0.85, -0.45, 0.22),
        st_target=Target((I, AVL, V5, V6), 1, (0.16, 0.32)),
    ),
    Morphology.ISCHAEMIA: Edit(
        t_keep=(0.5, 0.9),
        st=(-0.75, -0.40, 0.10),
        st_target=Target((V4, V5, V6), -1, (0.09, 0.22)),
    ),
    Morphology.OLD_MI_ANTERIOR: Edit(
        qrs=(
            (46.0, 8.5, 0.80, 0.35, 0.62),
            (58.0, 8.0, 0.35, -0.05, 0.45),
            (12.0, 6.0, -0.02, 0.03, 0.12),
            UNUSED,
            UNUSED,
        ),
        first=(0.29, 0.12, -0.10, 0.05, 0.60),
        first_target=Target((V2, V3), -1, (0.30, 0.9)),
        spread=0.7,
        t_keep=(0.1, 0.5),
        t_add=(-0.12, -0.02, 0.22),
    ),
    Morphology.OLD_MI_INFERIOR: Edit(
        qrs=(
            (56.0, 8.0, 0.95, 0.38, 0.10),
            (61.0, 7.0, 0.35, -0.05, 0.35),
            (12.0, 6.0, -0.02, 0.0, -0.20),
            (69.0, 6.0, -0.05, -0.05, 0.30),
            UNUSED,
        ),
        first=(0.33, 0.15, 0.10, -0.60, -0.15),
        first_target=Target((II, AVF), -1, (0.20, 0.42)),
        spread=0.7,
        t_keep=(0.5, 0.9),
        t_add=(0.04, -0.22, -0.04),
    ),
    Morphology.OLD_MI_LATERAL: Edit(
        qrs=(
            (53.0, 8.0, 0.80, 0.48, 0.15),
            (61.0, 7.0, 0.25, -0.05, 0.30),
            (12.0, 6.0, -0.02, 0.0, -0.15),
            (69.0, 6.0, -0.05, -0.05, 0.20),
            UNUSED,
        ),
        first=(0.31, 0.14, -0.60, 0.10, -0.05),
        first_target=Target((I, AVL, V5, V6), -1, (0.18, 0.40)),
        spread=0.7,
        t_keep=(0.3, 0.6),
        t_add=(-0.22, 0.06, -0.10),
    ),
    Morphology.LVH: Edit(
        qrs=(
            (-24.0, 7.9, -0.12, 0.10, -0.40),
            (-9.0, 9.3, 0.88, 0.18, 0.80),
            (-1.0, 4.3, 0.50, 0.15, 0.25),
            (8.0, 6.5, 0.52, -0.08, 1.20),
            (14.0, 8.2, -0.05, -0.20, 0.75),
        ),
        voltage=Voltage(limb=(0.8, 9.0), precordial=(1.6, 9.0), cornell=(1.18, 9.0)),
        spread=0.7,
        t_keep=(0.0, 0.2),
        t_add=(-0.34, -0.02, -0.30),
        st=(-0.55, -0.05, -0.35),
        st_target=Target((V5, V6), -1, (0.06, 0.16)),
    ),
    Morphology.RVH: Edit(
        qrs=(
            (14.0, 6.0, 0.02, -0.06, -0.22),
            (31.0, 8.5, 0.40, 0.45, -0.45),
            (47.0, 9.0, -0.60, 0.55, -0.62),
            (63.0, 8.0, -0.45, 0.15, 0.10),
            UNUSED,
        ),
        voltage=Voltage(limb=(0.8, 9.0), precordial=(1.3, 9.0), r_v1=(0.85, 9.0)),
        spread=0.6,
        t_keep=(0.3, 0.6),
        t_add=(0.22, -0.06, 0.34),
        st=(0.2, -0.1, 0.6),
        st_target=Target((V2,), -1, (0.03, 0.10)),
    ),
    Morphology.LEFT_ATRIAL_ENLARGEMENT: Edit(
        p=((38.0, 15.0, 0.055, 0.075, -0.055), (82.0, 19.0, 0.075, 0.040, 0.110)),
        p_target=Target((V1,), -1, (0.15, 0.21)),
    ),
    Morphology.RIGHT_ATRIAL_ENLARGEMENT: Edit(
        p=((44.0, 15.0, 0.020, 0.180, -0.040), (62.0, 15.0, 0.040, 0.090, -0.03)),
        p_target=Target((II,), 1, (0.30, 0.40)),
    ),
    Morphology.LONG_QT: Edit(),
    Morphology.T_INVERSION: Edit(
        t_keep=(0.0, 0.0),
        t_add=(-0.62, -0.12, 0.34),
        t_target=Target((V4, V5), -1, (0.16, 0.55)),
    ),
    Morphology.EARLY_REPOLARISATION: Edit(
        j_wave=(0.97, 0.11, 0.55, 0.62, 0.05),
        j_target=Target((II, AVF, V5), 1, (0.15, 0.24)),
        t_keep=(1.2, 1.6),
        st=(0.45, 0.45, -0.15),
        st_target=Target((II, V5), 1, (0.02, 0.05)),
    ),
    Morphology.LOW_VOLTAGE: Edit(
        voltage=Voltage(limb=(0.0, 0.35), precordial=(0.0, 0.75)), p=_HALF_P, t_keep=(0.25, 0.45)
    ),
}


def to_unit(kernels: np.ndarray, threshold_mv: float, measured: np.ndarray | slice = slice(None)) -> np.ndarray:
    """A table `(kernels, 5)` with its times as shares of the complex: 0 at the onset, 1 at the end of `measured`."""
    time_ms = np.arange(-150.0, 400.0, 0.25)
    bank = np.exp(-0.5 * ((time_ms[:, None] - kernels[measured, 0]) / kernels[measured, 1]) ** 2)
    start, end = time_ms[np.linalg.norm(bank @ kernels[measured, 2:], axis=1) > threshold_mv][[0, -1]]
    scaled = kernels.copy()
    scaled[:, 0] = (kernels[:, 0] - start) / (end - start)
    scaled[:, 1] = kernels[:, 1] / (end - start)
    return scaled


def _qrs_table(edit: Edit) -> np.ndarray:
    """The eight QRS kernels of an edit in units of the QRS duration; a solved kernel is so already."""
    table = np.array([*edit.qrs, edit.first, edit.late, edit.j_wave])
    solved = _solved(edit) > 0
    unit = to_unit(table, QRS_THRESHOLD_MV, ~solved)
    unit[solved] = table[solved]
    return unit


def _solved(edit: Edit) -> np.ndarray:
    """1 for the QRS kernel whose size is solved for, else 0."""
    return np.array([0.0] * 5 + [float(edit.first_target is not None), 0.0, float(edit.j_target is not None)])


def _target_row(target: Target | None) -> list[float]:
    """Leads (padded to four by repetition), sign and range; a sign of 0 is no target."""
    if target is None:
        return [0.0] * 7
    return [*(target.leads + target.leads[:1] * 4)[:4], target.sign, *target.range_mv]


def _row(edit: Edit) -> np.ndarray:
    voltage = [getattr(edit.voltage, field.name) for field in dataclasses.fields(Voltage)]
    parts: tuple[ArrayLike, ...] = (
        _qrs_table(edit),
        to_unit(np.array(edit.p), P_THRESHOLD_MV),
        voltage,
        *(_target_row(t) for t in (edit.first_target or edit.j_target, edit.p_target, edit.t_target, edit.st_target)),
        _solved(edit),
        edit.t_keep,
        edit.t_add,
        edit.st,
        [edit.spread, float(edit.st_sexed)],
    )
    return np.concatenate([np.ravel(part) for part in parts]).astype(np.float32)


#: All edits by morphology code.
EDIT_TABLE = np.stack([_row(EDITS[morphology]) for morphology in Morphology])


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Goal:
    """A `Target` as arrays: leads `(4,)`, sign (0: none), range `(2,)` in mV."""

    leads: jax.Array
    sign: jax.Array
    range_mv: jax.Array


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Shape:
    """One morphology's row of `EDIT_TABLE` as arrays."""

    qrs: jax.Array  # (8, 5) centre, width, vector; times as shares of the QRS duration
    p: jax.Array  # (2, 5)
    voltage: jax.Array  # (5, 2) ranges in the order of `Voltage`
    qrs_goal: Goal
    p_goal: Goal
    t_goal: Goal
    st_goal: Goal
    solved: jax.Array  # (8,) 1 for the QRS kernel whose size is solved for
    t_keep: jax.Array  # (2,)
    t_add_mv: jax.Array  # (3,)
    st: jax.Array  # (3,)
    spread: jax.Array
    st_sexed: jax.Array


def shape_of(conditions: Conditions | None) -> Shape:
    """The shape that a record's morphology asks for; the normal one without conditions."""
    row = jnp.asarray(EDIT_TABLE)[0 if conditions is None else conditions.morphology]
    qrs, p, voltage, targets, *rest = cut(row, (8, 5), (2, 5), (5, 2), (4, 7), (8,), (2,), (3,), (3,), (), ())
    of_qrs, of_p, of_t, of_st = (
        Goal(targets[i, :4].astype(jnp.int32), targets[i, 4], targets[i, 5:]) for i in range(4)
    )
    return Shape(qrs, p, voltage, of_qrs, of_p, of_t, of_st, *rest)


def within(bounds: tuple[float, float] | jax.Array, uniform: jax.Array) -> jax.Array:
    """A uniform draw moved to a range."""
    return bounds[0] + (bounds[1] - bounds[0]) * uniform


declare(
    "edits",
    vars(),
    "UNUSED QRS_THRESHOLD_MV P_THRESHOLD_MV NORMAL_QRS NORMAL_P NORMAL_T WITHIN_NORMAL _WITHOUT_SEPTUM _HALF_P "
    "_STRAIN EDITS EDIT_TABLE",
)
