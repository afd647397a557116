"""The state of a heart: what disease, drugs and devices change of its sources. States compose."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from ecg_jax.data.synthetic.constants import declare
from ecg_jax.data.synthetic.physiology.conditions import Morphology
from ecg_jax.data.synthetic.sources.conduction import NEVER_MS, Conduction, Fascicle, normal_conduction
from ecg_jax.data.synthetic.sources.ventricles import REGIONS

#: Where all activation starts in one place, each region takes longer than in bundle branch block, and no fronts within
#: it cancel, as those from the Purkinje net partly do: ectopic complexes are taller than conducted ones, and smooth.
#: Fronts find the Purkinje net on their way and use it in part: complexes last some 125 to 200 ms (design, all three).
FOCAL_SPREAD, FOCAL_GAIN, FOCAL_TRAVEL = 1.35, 1.6, 0.8


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class HeartState:
    """What differs from a healthy heart, by region `(12,)` unless said."""

    conduction: Conduction
    muscle: jax.Array  # share of the region's muscle that is activated: 0 in a scar, above 1 in hypertrophy
    gradient: jax.Array  # factor of the difference between the action potentials of endocardium and epicardium
    apd_ms: jax.Array  # added to the duration of the action potential
    injury: jax.Array  # plateau lost at the epicardium (at the endocardium: below 0), share of the action potential
    j_wave_mv: jax.Array  # () height of a J wave in the inferior and lateral leads
    right_atrium: jax.Array  # () factor of its muscle
    left_atrium: jax.Array  # ()
    left_atrium_delay: jax.Array  # () share of the P wave by which the left atrium is later
    severity: jax.Array  # (len(Morphology),) 0 to 1 of each morphology that the heart has; 0 of others


def healthy() -> HeartState:
    """A heart without disease."""
    ones, zeros, one, zero = jnp.ones(REGIONS), jnp.zeros(REGIONS), jnp.ones(()), jnp.zeros(())
    severity = jnp.zeros(len(Morphology))
    return HeartState(normal_conduction(), ones, ones, zeros, zeros, zero, one, one, zero, severity)


def combined(first: HeartState, second: HeartState) -> HeartState:
    """Both at once: factors multiply, delays, shifts and injuries add up, the earliest entry counts."""
    a, b = first.conduction, second.conduction
    return HeartState(
        conduction=Conduction(
            a.delay_ms + b.delay_ms,
            jnp.minimum(a.focus_ms, b.focus_ms),
            a.jitter_ms + b.jitter_ms,
            a.crossed_spread * b.crossed_spread,
            a.travel * b.travel,
        ),
        muscle=first.muscle * second.muscle,
        gradient=first.gradient * second.gradient,
        apd_ms=first.apd_ms + second.apd_ms,
        injury=first.injury + second.injury,
        j_wave_mv=first.j_wave_mv + second.j_wave_mv,
        right_atrium=first.right_atrium * second.right_atrium,
        left_atrium=first.left_atrium * second.left_atrium,
        left_atrium_delay=first.left_atrium_delay + second.left_atrium_delay,
        severity=jnp.maximum(first.severity, second.severity),
    )


def ventricular_focus(region: jax.Array) -> HeartState:
    """A heart whose ventricles are activated from one region alone, through muscle: ectopic, escape and paced beats."""
    state = healthy()
    alone = dataclasses.replace(
        state.conduction,
        delay_ms=jnp.full(len(Fascicle), NEVER_MS),
        focus_ms=jnp.where(jnp.arange(REGIONS) == region, 0.0, NEVER_MS),
        crossed_spread=FOCAL_SPREAD,
        travel=FOCAL_TRAVEL,
    )
    return dataclasses.replace(
        state, conduction=alone, muscle=jnp.full(REGIONS, FOCAL_GAIN), gradient=jnp.full(REGIONS, 1.0 / FOCAL_GAIN)
    )


declare("sources.state", vars(), "FOCAL_SPREAD FOCAL_GAIN FOCAL_TRAVEL", version=3)
