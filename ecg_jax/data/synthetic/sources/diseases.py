"""What each condition changes of a heart's sources, as data: one `Disease` for each morphology.

A disease says which fascicles are blocked, where a pathway enters, which regions lost or gained muscle, which are
injured, and where action potentials changed. What the leads show follows. Amounts are ranges from the mildest to the
severest, drawn with one severity for each of a patient's morphologies (design, to meet the cited definitions: AHA:
AHA/ACCF/HRS recommendations 2009, Circulation 119:e235, e241, e251; MI: Fourth Universal Definition of Myocardial
Infarction, Circulation 138:e618, 2018).
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from ecg_jax.data.synthetic.constants import declare
from ecg_jax.data.synthetic.physiology.conditions import Morphology
from ecg_jax.data.synthetic.physiology.patient import Patient
from ecg_jax.data.synthetic.randomness.draws import cut
from ecg_jax.data.synthetic.sources.conduction import NEVER_MS, Conduction, Fascicle
from ecg_jax.data.synthetic.sources.state import HeartState
from ecg_jax.data.synthetic.sources.ventricles import REGIONS, Region

Range = tuple[float, float]
Regional = dict[Region, Range]
LEFT_VENTRICLE = (
    Region.SEPTUM_LEFT,
    Region.APEX,
    Region.ANTERIOR,
    Region.LATERAL,
    Region.POSTERIOR,
    Region.INFERIOR,
    Region.BASE_LATERAL,
)
RIGHT_VENTRICLE = (Region.RV_FREE_WALL, Region.RV_APEX, Region.RV_OUTFLOW)
LEFT_BUNDLE = (Fascicle.LEFT_SEPTAL, Fascicle.LEFT_ANTERIOR, Fascicle.LEFT_POSTERIOR)
#: A draw of a disease's amounts keeps to the patient's severity within half of this either way.
SEVERITY_SPREAD = 0.4
#: Uniform draws that `sample_disease` takes.
DRAWS = len(Morphology) + 15


@dataclasses.dataclass(frozen=True)
class Disease:
    """One morphology. Latents are those of the heart without it: QRS duration and axis of normal conduction."""

    blocked: tuple[Fascicle, ...] = ()
    pathways: tuple[Region, ...] = ()  # one of them, at random
    pathway_ms: Range = (0.0, 0.0)  # when it enters, from the His bundle's impulse
    muscle: Regional = dataclasses.field(default_factory=dict)
    gradient: Regional = dataclasses.field(default_factory=dict)
    apd_ms: Regional = dataclasses.field(default_factory=dict)
    injury: Regional = dataclasses.field(default_factory=dict)
    j_wave_mv: Range = (0.0, 0.0)
    right_atrium: Range = (1.0, 1.0)
    left_atrium: Range = (1.0, 1.0)
    left_atrium_delay: Range = (0.0, 0.0)
    qrs_ms: Range | None = None
    qrs_axis_deg: Range | None = None
    p_duration_ms: Range | None = None
    pr_ms: Range | None = None
    qtcf_ms: Range | None = None


def _all(regions: tuple[Region, ...], amount: Range) -> Regional:
    return dict.fromkeys(regions, amount)


DISEASES: dict[Morphology, Disease] = {
    Morphology.NORMAL: Disease(),
    Morphology.RBBB: Disease(blocked=(Fascicle.RIGHT,), pr_ms=(130, 195), qrs_ms=(98, 114), qrs_axis_deg=(5, 45)),
    # A ventricle that is long activated late has less of a gradient (design: remodelling in dyssynchrony).
    Morphology.LBBB: Disease(
        blocked=LEFT_BUNDLE,
        gradient=_all(LEFT_VENTRICLE, (0.7, 0.55)),
        pr_ms=(130, 195),
        qrs_ms=(80, 96),
        qrs_axis_deg=(20, 60),
    ),
    Morphology.LAFB: Disease(blocked=(Fascicle.LEFT_ANTERIOR,), qrs_ms=(74, 90), qrs_axis_deg=(-26, -3)),
    Morphology.LPFB: Disease(blocked=(Fascicle.LEFT_POSTERIOR,), qrs_ms=(74, 92), qrs_axis_deg=(82, 104)),
    Morphology.WPW: Disease(
        pathways=(Region.BASE_LATERAL, Region.INFERIOR, Region.RV_FREE_WALL),
        pathway_ms=(-84, -66),
        qrs_ms=(88, 100),
        pr_ms=(82, 104),
        p_duration_ms=(70, 85),
    ),
    Morphology.STEMI_ANTERIOR: Disease(
        muscle={Region.ANTERIOR: (1.0, 0.5), Region.SEPTUM_LEFT: (1.0, 0.7)},
        gradient={Region.ANTERIOR: (1.0, 1.5), Region.SEPTUM_LEFT: (1.0, 1.2)},
        injury={Region.SEPTUM_LEFT: (0.30, 0.6), Region.ANTERIOR: (0.2, 0.5), Region.APEX: (0.03, 0.12)},
    ),
    Morphology.STEMI_INFERIOR: Disease(
        muscle={Region.INFERIOR: (1.0, 0.5)},
        gradient={Region.INFERIOR: (1.2, 1.8)},
        injury={Region.INFERIOR: (0.4, 0.75), Region.POSTERIOR: (0.05, 0.2), Region.RV_APEX: (0.05, 0.15)},
    ),
    Morphology.STEMI_LATERAL: Disease(
        muscle={Region.LATERAL: (1.0, 0.6)},
        gradient={Region.LATERAL: (1.0, 1.3)},
        injury={Region.LATERAL: (0.6, 0.8), Region.ANTERIOR: (0.5, 0.7), Region.APEX: (0.12, 0.2)},
    ),
    # Of the endocardium, at the apex above all: the ST vector points to the base.
    Morphology.ISCHAEMIA: Disease(
        injury={
            Region.APEX: (-0.25, -0.45),
            Region.LATERAL: (-0.1, -0.25),
            Region.SEPTUM_LEFT: (-0.08, -0.15),
            Region.INFERIOR: (-0.05, -0.15),
        },
        gradient=_all(LEFT_VENTRICLE, (0.95, 0.8)),
    ),
    # Scars: what is lost, and what is left beside it, was searched for until the definitions were met.
    Morphology.OLD_MI_ANTERIOR: Disease(
        muscle={
            Region.ANTERIOR: (0.2, 0.0),
            Region.APEX: (0.55, 0.35),
            Region.SEPTUM_LEFT: (0.05, 0.0),
            Region.SEPTUM_RIGHT: (0.15, 0.05),
            Region.RV_APEX: (0.15, 0.05),
            Region.RV_FREE_WALL: (0.3, 0.15),
        },
        gradient={Region.LATERAL: (1.0, 0.6), Region.APEX: (1.0, 0.6)},
        qrs_ms=(74, 92),
        qrs_axis_deg=(-28, 0),
    ),
    Morphology.OLD_MI_INFERIOR: Disease(
        muscle={
            Region.INFERIOR: (0.25, 0.0),
            Region.POSTERIOR: (1.15, 1.05),
            Region.APEX: (0.85, 0.7),
            Region.RV_APEX: (0.1, 0.0),
            Region.LATERAL: (0.1, 0.0),
        },
        gradient={Region.POSTERIOR: (0.95, 0.6)},
        qrs_ms=(104, 116),
        qrs_axis_deg=(-36, -16),
    ),
    # The front of the right face of the septum is lost too: else it would point to the scar's leads first.
    Morphology.OLD_MI_LATERAL: Disease(
        muscle={
            Region.LATERAL: (0.0, 0.0),
            Region.ANTERIOR: (0.0, 0.0),
            Region.APEX: (0.08, 0.0),
            Region.BASE_LATERAL: (0.6, 0.5),
            Region.POSTERIOR: (1.1, 1.0),
            Region.SEPTUM_RIGHT: (0.0, 0.0),
            Region.RV_FREE_WALL: (0.6, 0.5),
            Region.RV_APEX: (0.7, 0.6),
        },
        gradient={Region.POSTERIOR: (0.95, 0.6)},
        qrs_ms=(102, 116),
        qrs_axis_deg=(-30, 0),
    ),
    # Strain begins at half the severity: below, hypertrophy shows by voltage alone.
    Morphology.LVH: Disease(
        muscle=_all(LEFT_VENTRICLE, (2.7, 3.4)) | {Region.SEPTUM_LEFT: (1.1, 1.4)},
        gradient=_all(LEFT_VENTRICLE, (1.0, 0.15)),
        qrs_ms=(88, 106),
        qrs_axis_deg=(-25, 25),
    ),
    Morphology.RVH: Disease(
        muscle=_all(LEFT_VENTRICLE, (0.5, 0.4))
        | {
            Region.RV_FREE_WALL: (3.2, 3.8),
            Region.RV_APEX: (7.0, 8.5),
            Region.RV_OUTFLOW: (4.8, 5.6),
            Region.SEPTUM_RIGHT: (1.3, 1.5),
        },
        gradient=_all(RIGHT_VENTRICLE, (0.8, 0.4)),
        qrs_axis_deg=(45, 65),
        qrs_ms=(72, 84),
    ),
    Morphology.LEFT_ATRIAL_ENLARGEMENT: Disease(
        left_atrium=(4.0, 5.2), left_atrium_delay=(0.05, 0.10), p_duration_ms=(124, 145), pr_ms=(160, 215)
    ),
    Morphology.RIGHT_ATRIAL_ENLARGEMENT: Disease(right_atrium=(5.0, 6.5)),
    Morphology.LONG_QT: Disease(qtcf_ms=(485, 560)),
    Morphology.T_INVERSION: Disease(
        gradient={
            Region.ANTERIOR: (-0.3, -1.0),
            Region.APEX: (-0.3, -1.0),
            Region.LATERAL: (-0.2, -0.6),
            Region.SEPTUM_LEFT: (0.25, -0.2),
        }
    ),
    Morphology.EARLY_REPOLARISATION: Disease(
        j_wave_mv=(0.18, 0.30), gradient=_all(LEFT_VENTRICLE, (1.05, 1.2)), qrs_axis_deg=(25, 70)
    ),
    Morphology.LOW_VOLTAGE: Disease(muscle=_all(tuple(Region), (0.29, 0.18))),
}

_REGIONAL = ("muscle", "gradient", "apd_ms", "injury")
_REST = {"muscle": 1.0, "gradient": 1.0, "apd_ms": 0.0, "injury": 0.0}
_SCALAR = ("j_wave_mv", "right_atrium", "left_atrium", "left_atrium_delay")
_LATENTS = ("qrs_ms", "qrs_axis_deg", "p_duration_ms", "pr_ms", "qtcf_ms")
MOST_PATHWAYS = 3


def _row(disease: Disease) -> np.ndarray:
    """A disease as one row: four regional tables `(4, 12, 2)`, scalars `(4, 2)`, delays `(4,)`, pathways, latents."""
    regional = np.array(
        [[getattr(disease, name).get(region, (_REST[name],) * 2) for region in Region] for name in _REGIONAL]
    )
    scalar = np.array([getattr(disease, name) for name in _SCALAR])
    delay = np.array([NEVER_MS * (fascicle in disease.blocked) for fascicle in Fascicle])
    cycle = [disease.pathways[i % len(disease.pathways)] if disease.pathways else -1 for i in range(MOST_PATHWAYS)]
    latents = [getattr(disease, name) or (np.nan, np.nan) for name in _LATENTS]
    parts = (regional, scalar, delay, cycle, disease.pathway_ms, latents)
    return np.concatenate([np.ravel(part) for part in parts]).astype(np.float32)


#: All diseases by morphology code; NaN where a latent stays.
DISEASE_TABLE = np.stack([_row(DISEASES[morphology]) for morphology in Morphology])


@dataclasses.dataclass(frozen=True)
class _Amounts:
    """What each morphology would do to one patient's heart, by morphology code `(M, ...)`."""

    regional: jax.Array  # (M, 4, 12)
    scalar: jax.Array  # (M, 4)
    delay_ms: jax.Array  # (M, 4)
    focus_ms: jax.Array  # (M, 12)
    latents: jax.Array  # (M, 5, 2) ranges, NaN where a latent stays


def _amounts(severity: jax.Array, draws: jax.Array) -> _Amounts:
    """Every morphology at its severity `(M,)`."""
    of_regions, of_scalars, which = cut(draws, (4,), (4,), (2,))
    regional, scalar, delay_ms, pathways, pathway_ms, latents = jax.vmap(
        lambda row: tuple(cut(row, (4, REGIONS, 2), (4, 2), (4,), (MOST_PATHWAYS,), (2,), (5, 2)))
    )(jnp.asarray(DISEASE_TABLE))

    def amount(draw: jax.Array) -> jax.Array:
        return jnp.clip(severity[:, None] + SEVERITY_SPREAD * (draw - 0.5), 0.0, 1.0)

    pathway = pathways[:, jnp.minimum((which[0] * MOST_PATHWAYS).astype(jnp.int32), MOST_PATHWAYS - 1), None]
    enters = jnp.arange(REGIONS) == pathway
    return _Amounts(
        _within(regional, amount(of_regions)[..., None]),
        _within(scalar, amount(of_scalars)),
        delay_ms,
        jnp.where(enters, _within(pathway_ms, which[1])[:, None], NEVER_MS),
        latents,
    )


def _within(ends: jax.Array, share: jax.Array) -> jax.Array:
    return ends[..., 0] + (ends[..., 1] - ends[..., 0]) * share


def sample_disease(row: jax.Array, flags: jax.Array, patient: Patient) -> tuple[HeartState, Patient]:
    """The state of a heart with every morphology whose flag `(len(Morphology),)` is set, and the patient with the
    latents that they set.

    `row` holds at least `DRAWS` uniform draws: one for each kind of change, then a severity for each morphology, so
    that a further one moves none.
    Several compose as `state.combined` says. A latent that several set comes from where their ranges overlap; where
    they do not, from between them.
    """
    draws, of_latents, severity = cut(row[:DRAWS], (10,), (5,), (len(Morphology),))
    made = _amounts(severity, draws)
    is_set = flags > 0

    def product(factors: jax.Array) -> jax.Array:
        return jnp.where(is_set.reshape(-1, *[1] * (factors.ndim - 1)), factors, 1.0).prod(0)

    def total(amounts: jax.Array) -> jax.Array:
        return jnp.where(is_set.reshape(-1, *[1] * (amounts.ndim - 1)), amounts, 0.0).sum(0)

    state = HeartState(
        conduction=Conduction(
            jnp.minimum(total(made.delay_ms), NEVER_MS),
            jnp.where(is_set[:, None], made.focus_ms, NEVER_MS).min(0),
            jnp.zeros(REGIONS),
        ),
        muscle=product(made.regional[:, 0]),
        gradient=product(made.regional[:, 1]),
        apd_ms=total(made.regional[:, 2]),
        injury=total(made.regional[:, 3]),
        j_wave_mv=total(made.scalar[:, 0]),
        right_atrium=product(made.scalar[:, 1]),
        left_atrium=product(made.scalar[:, 2]),
        left_atrium_delay=total(made.scalar[:, 3]),
        severity=jnp.where(is_set, severity, 0.0),
    )
    given = is_set[:, None] & ~jnp.isnan(made.latents[..., 0])
    low = jnp.where(given, made.latents[..., 0], -jnp.inf).max(0)
    high = jnp.where(given, made.latents[..., 1], jnp.inf).min(0)
    drawn = low + (high - low) * of_latents
    changed = {name: jnp.where(given[:, i].any(), drawn[i], getattr(patient, name)) for i, name in enumerate(_LATENTS)}
    # JT is kept: a QRS complex that conduction widens lengthens QT, unless QT is itself the disease's.
    sets_qt = given[:, _LATENTS.index("qtcf_ms")].any()
    wider_ms = jnp.where(sets_qt, 0.0, changed["qrs_ms"] - patient.qrs_ms)
    changed["qtcf_ms"] = changed["qtcf_ms"] + wider_ms
    return state, dataclasses.replace(patient, **changed)


declare(
    "sources.diseases",
    vars(),
    "LEFT_VENTRICLE RIGHT_VENTRICLE LEFT_BUNDLE SEVERITY_SPREAD DRAWS DISEASES DISEASE_TABLE MOST_PATHWAYS _REGIONAL "
    "_REST _SCALAR _LATENTS",
    version=3,
)
