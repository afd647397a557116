"""The heart's sources of version 3: what must follow from regions, conduction and gradients, and was not drawn."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ecg_jax.data.synthetic.annotate import criteria
from ecg_jax.data.synthetic.annotate.shares_met import measured as measured_for_criteria
from ecg_jax.data.synthetic.physiology.composition import flags_of
from ecg_jax.data.synthetic.physiology.conditions import Morphology, Rhythm
from ecg_jax.data.synthetic.physiology.kernels import AVF, AVL, AVR, II, III, V1, V2, V3, V4, V5, V6, I
from ecg_jax.data.synthetic.physiology.leads import DOWER, ELECTRODES_TO_LEADS, twelve_leads
from ecg_jax.data.synthetic.physiology.patient import ADULT, sample_patient
from ecg_jax.data.synthetic.randomness.draws import DRAWS_PER_ROW
from ecg_jax.data.synthetic.sources import atria, gallery
from ecg_jax.data.synthetic.sources.anatomy import sample_anatomy
from ecg_jax.data.synthetic.sources.atria import AtrialFocus
from ecg_jax.data.synthetic.sources.beat import beat_of, p_rows
from ecg_jax.data.synthetic.sources.conduction import NEVER_MS, Fascicle, activate, normal_conduction
from ecg_jax.data.synthetic.sources.diseases import sample_disease
from ecg_jax.data.synthetic.sources.one_beat import one_beat, one_beats, time_s
from ecg_jax.data.synthetic.sources.repolarisation import T_WIDTH_MS
from ecg_jax.data.synthetic.sources.rows import kernels_at
from ecg_jax.data.synthetic.sources.state import HeartState, combined, healthy, ventricular_focus
from ecg_jax.data.synthetic.sources.ventricles import NORMAL, REGIONS, Region, lead_fields

#: Morphologies whose definition nine in ten patients meet, and how many patients of each are drawn.
DEFINED = tuple(Morphology)[1:]
OF_EACH = 12
INDEPENDENT = [I, II, *range(V1, V6 + 1)]
RANDOM = 120


@dataclasses.dataclass(frozen=True)
class Measured:
    """One beat in twelve leads, measured where its fiducials say."""

    leads_mv: np.ndarray
    qrs_ms: float

    def part(self, from_ms: float, to_ms: float) -> np.ndarray:
        """The samples between two times from the QRS onset."""
        time_ms = 1e3 * time_s()
        return self.leads_mv[(time_ms >= from_ms) & (time_ms < to_ms)]

    @property
    def qrs(self) -> np.ndarray:
        """The QRS complex."""
        return self.part(-2.0, self.qrs_ms)

    @property
    def t(self) -> np.ndarray:
        """The ST segment and T wave."""
        return self.part(self.qrs_ms, 520.0)

    @property
    def t_mv(self) -> np.ndarray:
        """T's largest deflection in each lead, past the first third of ST."""
        t = self.part(self.qrs_ms + 70.0, 520.0)
        return t[np.abs(t).argmax(0), np.arange(12)]

    @property
    def axis_deg(self) -> float:
        """The frontal axis from net areas in I and aVF."""
        area = self.qrs.sum(0)
        return float(np.degrees(np.arctan2(2 / np.sqrt(3) * area[AVF], area[I])))


@pytest.fixture(scope="module")
def drawn():
    """The middle patient with each morphology, by its code, then normal random ones and random ones of `DEFINED`; with
    the patients, and the definitions that each meets."""
    codes = np.concatenate([np.arange(len(Morphology)), np.zeros(RANDOM, int), np.repeat(DEFINED, OF_EACH)])
    rows = np.array(jax.random.uniform(jax.random.key(1), (len(codes), 3, DRAWS_PER_ROW)))
    rows[: len(Morphology)] = 0.5
    unknown = np.full(len(codes), np.nan)
    beats, patients = gallery.beats(jnp.asarray(rows), jnp.eye(len(Morphology))[codes], unknown, unknown)
    leads_mv = np.asarray(one_beats(beats, patients))
    qrs_s = np.asarray(beats.fiducials.qrs_s)[:, 2]
    measured = [Measured(leads, 1e3 * float(end)) for leads, end in zip(leads_mv, qrs_s)]
    return (
        measured,
        patients,
        [criteria.morphologies_met(x, Rhythm.SINUS) for x in measured_for_criteria(beats, patients)],
    )


@pytest.fixture(scope="module")
def middle(drawn):
    return drawn[0][: len(Morphology)]


@pytest.fixture(scope="module")
def normals(drawn):
    return drawn[0][len(Morphology) : len(Morphology) + RANDOM]


@pytest.fixture(scope="module")
def anatomy():
    patient = jax.jit(lambda row: sample_patient(row, ADULT))(jnp.full(DRAWS_PER_ROW, 0.5))
    return jax.jit(sample_anatomy)(jnp.full(DRAWS_PER_ROW, 0.5), patient, 0.55), patient


def blocked(*fascicles: Fascicle) -> HeartState:
    state = healthy()
    delay = jnp.zeros(len(Fascicle)).at[jnp.array(fascicles)].set(NEVER_MS)
    return dataclasses.replace(state, conduction=dataclasses.replace(state.conduction, delay_ms=delay))


BUNDLES = {"right": (Fascicle.RIGHT,), "left": (Fascicle.LEFT_SEPTAL, Fascicle.LEFT_ANTERIOR, Fascicle.LEFT_POSTERIOR)}


def test_a_dipole_in_the_middle_has_dowers_lead_field_and_a_near_one_a_larger():
    fields = np.asarray(lead_fields(jnp.array([[0.0, 0.0, 0.0], [0.0, 0.0, -3.0]])))
    np.testing.assert_allclose(ELECTRODES_TO_LEADS @ fields[0], DOWER, atol=1e-5)
    length = np.linalg.norm(ELECTRODES_TO_LEADS @ fields[1], axis=1)
    assert (length[2:6] > np.linalg.norm(DOWER[2:6], axis=1)).all()


def test_activation_runs_from_the_septum_to_the_base():
    reached = activate(normal_conduction())
    order = np.asarray(reached.time_ms)
    assert order[Region.SEPTUM_LEFT] < order[Region.LATERAL] < order[Region.BASE_LATERAL]
    assert order[Region.RV_FREE_WALL] < 35 and order.max() < 95 and order.argmax() == Region.RV_OUTFLOW
    np.testing.assert_allclose(reached.direction[Region.LATERAL], NORMAL[Region.LATERAL], atol=0.02)


def test_a_blocked_bundle_turns_the_septum_round():
    usual, without = activate(normal_conduction()), activate(blocked(*BUNDLES["left"]).conduction)
    rightwards = NORMAL[Region.SEPTUM_LEFT]
    assert usual.direction[Region.SEPTUM_LEFT] @ rightwards > 0.9
    assert without.direction[Region.SEPTUM_LEFT] @ rightwards < -0.4
    late = np.asarray(without.time_ms - usual.time_ms)
    assert late[Region.LATERAL] > 50 and abs(late[Region.RV_FREE_WALL]) < 1


def test_normal_amplitudes_are_the_published_means(normals):
    # Lepeschkin 1951, R and S in mV; in the median of patients of both sexes and all ages.
    r, s = (np.median([x.qrs.max(0) for x in normals], 0), np.median([-x.qrs.min(0) for x in normals], 0))
    t = np.median([x.t_mv for x in normals], 0)
    np.testing.assert_allclose(r[[I, II, V2, V3, V4, V5, V6]], [0.53, 0.71, 0.59, 0.89, 1.42, 1.21, 0.92], rtol=0.25)
    np.testing.assert_allclose(s[[V1, V2, V3]], [0.86, 1.27, 0.88], rtol=0.2)
    np.testing.assert_allclose(t[[V3, V4, V5, V6]], [0.54, 0.48, 0.34, 0.24], rtol=0.3)


def test_r_grows_and_s_shrinks_across_the_chest(middle):
    r, s = middle[0].qrs.max(0), -middle[0].qrs.min(0)
    assert r[V1] < r[V2] < r[V3] < r[V4] and r[V4] > r[V6]
    assert s[V2] > s[V3] > s[V4] > s[V5] and s[V6] < 0.15
    assert r[V3] / s[V3] < 1.3 < r[V4] / s[V4]  # transition at V3 to V4


def test_normal_t_is_concordant(normals):
    upright = np.mean([x.t_mv > 0 for x in normals], 0)
    assert (upright[[I, II, V3, V4, V5, V6]] > 0.93).all() and upright[AVR] == 0
    assert 0.3 < upright[V1] < 0.9  # of either sign in normal adults


def test_t_is_asymmetric_and_its_loop_open(middle, normals):
    # From T's onset to its end, above the line between them, as a distribution over time.
    v5 = middle[0].leads_mv[:, V5]
    peak = int(np.argmax(np.where(time_s() > 0.2, v5, -1.0)))
    wave = v5[peak - 70 : peak + 55]
    wave, at = np.maximum(wave - np.linspace(wave[0], wave[-1], len(wave)), 0), 2.0 * np.arange(len(wave))
    mean = (wave @ at) / wave.sum()
    sd = np.sqrt(wave @ (at - mean) ** 2 / wave.sum())
    skewness = wave @ ((at - mean) / sd) ** 3 / wave.sum()
    assert -0.5 < skewness < -0.1  # Haarmark et al. 2010: -0.24, -0.22
    ratio = [(lambda v: v[1] / v[0])(np.linalg.svd(x.t[:, INDEPENDENT], compute_uv=False)) for x in normals]
    # Priori et al. 1997: 0.13 in controls; Okin et al. 2002: 90th percentiles 0.25 and 0.32 in men and women.
    assert 0.10 < np.median(ratio) < 0.22 and np.percentile(ratio, 90) < 0.34


def test_the_ventricular_gradient_does_not_depend_on_the_activation(anatomy):
    of_patient, patient = anatomy

    def area(state: HeartState) -> np.ndarray:
        beat = jax.jit(beat_of)(of_patient, patient, state)
        weights = np.concatenate([beat.qrs.weights_mv, beat.t.weights_mv[:REGIONS]])
        # The kernels of T are widened by the patient's QT, which scales their areas alone.
        width_s = np.concatenate([beat.qrs.width_s, np.full(REGIONS, 1e-3 * T_WIDTH_MS)])
        return (width_s[:, None] * weights).sum(0) @ ELECTRODES_TO_LEADS.T

    usual = area(healthy())
    for state in (blocked(*BUNDLES["left"]), blocked(*BUNDLES["right"]), ventricular_focus(Region.RV_APEX)):
        np.testing.assert_allclose(area(state), usual, rtol=0.02, atol=0.02 * np.abs(usual).max())


def test_left_bundle_branch_block(middle):
    beat = middle[Morphology.LBBB]
    assert beat.qrs_ms >= 125 and beat.qrs[:, V1].sum() < 0
    for lead in (I, AVL, V5, V6):
        assert beat.qrs[:, lead].max() > 0.4 and -beat.qrs[:20, lead].min() < 0.1  # broad R, no q wave that counts
    assert beat.part(60, beat.qrs_ms)[:, V6].max() == beat.qrs[:, V6].max()  # R peaks late
    assert max(beat.t_mv[[I, AVL, V6]]) < 0 < min(beat.t_mv[[V1, V2, V3]])  # discordant
    assert beat.t_mv[V5] < 0.3 * middle[0].t_mv[V5]  # flat at least


def test_right_bundle_branch_block(middle):
    beat = middle[Morphology.RBBB]
    late = beat.part(65, beat.qrs_ms)
    assert beat.qrs_ms >= 125 and late[:, V1].max() > 0.4 and min(-late[:, I].min(), -late[:, V6].min()) > 0.2
    assert beat.t_mv[V1] < 0 < min(beat.t_mv[[I, V6]])


def test_jt_is_kept_in_blocks(anatomy):
    of_patient, patient = anatomy

    def jt_ms(state: HeartState) -> float:
        made = jax.jit(beat_of)(of_patient, patient, state).fiducials
        return 1e3 * float(made.t_s[2] - made.qrs_s[2])

    usual = jt_ms(healthy())
    for fascicles in (*BUNDLES.values(), (Fascicle.LEFT_ANTERIOR,), (Fascicle.LEFT_POSTERIOR,)):
        assert abs(jt_ms(blocked(*fascicles)) - usual) <= 10, fascicles


def test_fascicular_blocks_deviate_the_axis_within_a_narrow_complex(middle):
    anterior, posterior = middle[Morphology.LAFB], middle[Morphology.LPFB]
    assert -90 <= anterior.axis_deg <= -45 and anterior.qrs_ms < 120
    assert -anterior.qrs[:, III].min() > anterior.qrs[:, III].max()  # rS
    assert anterior.qrs[:, AVL].max() > -anterior.qrs[:, AVL].min()  # qR
    assert 90 <= posterior.axis_deg <= 180 and posterior.qrs_ms < 120
    assert posterior.qrs[:, V1].max() < 0.5  # no right ventricular hypertrophy
    assert posterior.qrs[:, III].max() > -posterior.qrs[:, III].min()


def test_a_pathway_begins_the_complex_early_and_slowly(middle):
    usual, early = middle[0], middle[Morphology.WPW]
    assert early.qrs_ms > usual.qrs_ms + 25
    slope = [np.abs(np.diff(x.part(0, 22)[:, INDEPENDENT], axis=0)).mean() for x in (usual, early)]
    assert slope[1] < 0.8 * slope[0]


def test_injury_lifts_the_leads_that_face_it(middle):
    def at_j(shape: Morphology) -> np.ndarray:
        beat = middle[shape]
        return beat.part(beat.qrs_ms + 10, beat.qrs_ms + 14)[0] - middle[0].part(103, 107)[0]

    anterior, inferior, lateral, inner = map(
        at_j,
        (Morphology.STEMI_ANTERIOR, Morphology.STEMI_INFERIOR, Morphology.STEMI_LATERAL, Morphology.ISCHAEMIA),
    )
    assert min(anterior[[V2, V3]]) > 0.15 and anterior[III] < 0
    assert min(inferior[[II, III, AVF]]) > 0.15 and inferior[AVL] < -0.05  # reciprocal
    assert min(lateral[[I, AVL, V6]]) > 0.08
    assert max(inner[[II, V4, V5]]) < -0.08


def test_scars_make_q_waves(middle):
    anterior, inferior = middle[Morphology.OLD_MI_ANTERIOR].qrs, middle[Morphology.OLD_MI_INFERIOR].qrs
    assert anterior[:, V2].max() < 0.05 and -anterior[:, V2].min() > 0.5
    assert -inferior[:25, III].min() > 0.2 and inferior[:, III].max() < 0.1


def test_hypertrophy_raises_voltages_and_turns_t_round(middle):
    left, right = middle[Morphology.LVH], middle[Morphology.RVH]
    assert -left.qrs[:, V1].min() + left.qrs[:, V5].max() > 3.5
    assert left.t_mv[V6] < 0.6 * middle[0].t_mv[V6]
    assert right.qrs[:, V1].max() > 0.7 and right.axis_deg > 90


def test_p_is_tallest_in_ii_and_of_both_signs_in_v1(middle):
    p = middle[0].part(-157, -40)
    top = p.max(0)
    assert top.argmax() == II and 0.08 < top[II] < 0.15 and max(top[V1:]) < 0.08
    assert 0.03 < top[V1] < 0.08 and 0.02 < -p[:, V1].min() < 0.06
    wide = middle[Morphology.LEFT_ATRIAL_ENLARGEMENT].part(-185, -20)
    assert wide[:, V1].min() < -0.1
    assert middle[Morphology.RIGHT_ATRIAL_ENLARGEMENT].part(-157, -40)[:, II].max() > 0.25


def p_wave_from(anatomy, focus: AtrialFocus) -> np.ndarray:
    of_patient, patient = anatomy
    rows, _ = jax.jit(lambda: p_rows(of_patient, patient, healthy(), atria.route_from(int(focus))))()
    wave = twelve_leads(np.asarray(kernels_at(rows, time_s()) @ rows.weights_mv) @ ELECTRODES_TO_LEADS.T)
    return wave[(time_s() > -0.05) & (time_s() < 0.13)]


def test_p_waves_of_other_origin_run_away_from_it(anatomy):
    backwards = p_wave_from(anatomy, AtrialFocus.AV_NODE)
    assert max(backwards[:, lead].sum() for lead in (II, III, AVF)) < 0 < backwards[:, AVR].sum()
    of_veins = p_wave_from(anatomy, AtrialFocus.LEFT_VEINS)
    assert of_veins[:, AVL].sum() < 0 < of_veins[:, V1].sum()
    of_crista = p_wave_from(anatomy, AtrialFocus.CRISTA)
    assert of_crista[:, I].sum() > 0 and of_crista[:, AVR].sum() < 0


@pytest.mark.parametrize("draw", [0.1, 0.5, 0.9])
def test_f_and_flutter_waves_are_largest_where_the_atria_are_near(draw):
    def leads(is_flutter: float) -> np.ndarray:
        moments = atria.sample_fibrillation(jnp.full(atria.DRAWS, draw), is_flutter)
        fields = atria.atrial_fields()[np.array(atria.WAVE_REGIONS)]
        return twelve_leads(np.einsum("agx,aex->ge", moments, fields) @ ELECTRODES_TO_LEADS.T)

    f = np.sqrt((leads(0.0) ** 2).sum(0) / 2)
    assert f.argmax() == V1 and 0.01 < f[V1] < 0.15
    flutter = leads(1.0)[0]
    assert flutter[V1] > 0.03 and max(flutter[[II, III, AVF]]) < -0.05


def test_the_j_point_is_high_in_young_men(drawn, normals):
    patients = jax.tree.map(lambda x: np.asarray(x)[len(Morphology) : len(Morphology) + RANDOM], drawn[1])
    at_j = np.array([x.part(x.qrs_ms, x.qrs_ms + 2.1)[0][V1 : V4 + 1].max() for x in normals])
    is_man, is_young = patients.is_female < 0.5, patients.age_years < 40
    # Surawicz & Parikh 2002: 0.1 mV in 91 % of the youngest men, some 20 % of women.
    assert (at_j[is_man & is_young] >= 0.1).mean() > 0.55
    assert (at_j[~is_man] >= 0.1).mean() < 0.4


def test_states_compose(anatomy):
    of_patient, patient = anatomy
    both = combined(blocked(Fascicle.RIGHT), blocked(Fascicle.LEFT_ANTERIOR))

    def beat(state: HeartState) -> Measured:
        made = jax.jit(beat_of)(of_patient, patient, state)
        leads = np.asarray(one_beat(made, patient, jnp.asarray(time_s())))
        return Measured(leads, 1e3 * float(made.fiducials.qrs_s[2]))

    bifascicular = beat(both)
    assert bifascicular.qrs_ms > 115 and bifascicular.part(65, 140)[:, V1].max() > 0.2
    assert bifascicular.qrs[:, III].min() < -0.5 < 0.15 < bifascicular.part(60, 100)[:, AVL].max()


def test_a_beat_of_the_right_apex_is_wide_superior_and_like_left_bundle_branch_block(anatomy):
    of_patient, patient = anatomy
    made = jax.jit(beat_of)(of_patient, patient, ventricular_focus(Region.RV_APEX))
    leads = np.asarray(one_beat(made, patient, jnp.asarray(time_s())))
    beat = Measured(leads, 1e3 * float(made.fiducials.qrs_s[2]))
    assert 120 < beat.qrs_ms < 200 and -100 < beat.axis_deg < -30 and beat.qrs[:, V1].sum() < 0
    assert beat.t_mv[AVF] > 0  # against the complex


def test_definitions_are_met_where_intended_and_nowhere_else(drawn):
    met = drawn[2]
    normal, diseased = met[len(Morphology) : len(Morphology) + RANDOM], met[len(Morphology) + RANDOM :]
    for at, shape in enumerate(DEFINED):
        share = np.mean([shape in found for found in diseased[at * OF_EACH : (at + 1) * OF_EACH]])
        assert share >= 0.8, f"{shape.name}: {share:.2f}"
    for shape in Morphology:
        limit = 0.05  # of so few; of many, 2 %
        assert np.mean([shape in found for found in normal]) <= limit, shape.name


def test_flags_compose_and_a_latent_comes_from_where_ranges_overlap():
    patient = sample_patient(jnp.full(DRAWS_PER_ROW, 0.5), ADULT)
    sample = jax.jit(sample_disease)
    rows = jax.random.uniform(jax.random.key(2), (20, DRAWS_PER_ROW))
    both = flags_of(Morphology.RBBB, Morphology.LAFB)
    for row in rows:
        state, latents = sample(row, both, patient)
        assert list(np.flatnonzero(state.conduction.delay_ms)) == [Fascicle.LEFT_ANTERIOR, Fascicle.RIGHT]
        assert 90 <= latents.qrs_ms <= 98  # of 98 to 114 and of 74 to 90: between them
        of_right, alone = sample(row, flags_of(Morphology.RBBB), patient)
        assert of_right.severity[Morphology.RBBB] == state.severity[Morphology.RBBB] > 0
        # JT stays: QT is longer by as much as the complex.
        widened_ms = float(alone.qrs_ms - patient.qrs_ms)
        assert widened_ms > 5 and float(alone.qtcf_ms - patient.qtcf_ms) == pytest.approx(widened_ms, abs=0.01)
    state, latents = sample(rows[0], flags_of(), patient)
    assert all(jax.tree.leaves(jax.tree.map(np.array_equal, state, healthy())))
    assert all(jax.tree.leaves(jax.tree.map(np.array_equal, latents, patient)))
