"""How activation spreads: when each region is reached, and along which way its front travels.

A region is reached by the first of all routes: through its own Purkinje terminals, if their fascicle conducts, or
through muscle from any region that was reached,

    t(r) = min over k of  entry(k) + travel(k, r),    entry(k) = min over open fascicles, and foci, of their times,

with the minimum softened over `FUSION_MS`, where fronts meet. So conduction is data, and states compose: a block closes
a fascicle, an accessory pathway or a pacing lead adds an entry, and a fusion beat is both. A region that its terminals
activate has a front from the endocardium outwards, along its normal; one reached through muscle has a front that
travels on along the route, one that holds a focus spreads from there. Where fronts meet, the moments add up (and partly
cancel).
"""

from __future__ import annotations

import dataclasses
import enum

import jax
import jax.numpy as jnp
import numpy as np

from ecg_jax.data.synthetic.constants import declare
from ecg_jax.data.synthetic.sources.ventricles import NORMAL, POSITION_CM, REGIONS, Region


class Fascicle(enum.IntEnum):
    """The branches of the conduction system, each with its terminals."""

    LEFT_SEPTAL = 0
    LEFT_ANTERIOR = 1
    LEFT_POSTERIOR = 2
    RIGHT = 3


#: A time that no route takes: no terminal, no focus, a closed fascicle.
NEVER_MS = 1000.0
#: Middle of a region's activation through its own terminals, ms from the His bundle's impulse there; the septum and
#: the right ventricle's free wall first, the left one's base and the outflow tract last and through muscle (Durrer et
#: al., Circulation 41:899, 1970; epicardial breakthrough 17 ms, last 77 ms: Wyndham et al., Circulation 59:1176, 1979).
_TERMINALS: dict[tuple[Fascicle, Region], float] = {
    (Fascicle.LEFT_SEPTAL, Region.SEPTUM_LEFT): 23.0,
    (Fascicle.LEFT_SEPTAL, Region.BASE_SEPTUM): 61.2,
    (Fascicle.LEFT_ANTERIOR, Region.APEX): 40.1,
    (Fascicle.LEFT_ANTERIOR, Region.ANTERIOR): 30.5,
    (Fascicle.LEFT_ANTERIOR, Region.LATERAL): 32.0,
    (Fascicle.LEFT_POSTERIOR, Region.APEX): 38.3,
    (Fascicle.LEFT_POSTERIOR, Region.POSTERIOR): 51.5,
    (Fascicle.LEFT_POSTERIOR, Region.INFERIOR): 50.5,
    (Fascicle.RIGHT, Region.SEPTUM_RIGHT): 18.7,
    (Fascicle.RIGHT, Region.BASE_SEPTUM): 50.4,
    (Fascicle.RIGHT, Region.RV_FREE_WALL): 27.0,
    (Fascicle.RIGHT, Region.RV_APEX): 4.0,
}
ENTRY_MS = np.array(
    [[_TERMINALS.get((fascicle, region), NEVER_MS) for region in Region] for fascicle in Fascicle], np.float32
)
#: Along the walls through muscle and the distal Purkinje net, and from one face of the septum to the other besides.
MUSCLE_VELOCITY_MM_PER_MS, ACROSS_SEPTUM_MS = 0.851, 36.0

#: Neighbours in the muscle.
NEIGHBOURS: tuple[tuple[Region, Region], ...] = (
    (Region.SEPTUM_LEFT, Region.SEPTUM_RIGHT),
    (Region.SEPTUM_LEFT, Region.ANTERIOR),
    (Region.SEPTUM_LEFT, Region.INFERIOR),
    (Region.SEPTUM_LEFT, Region.BASE_SEPTUM),
    (Region.SEPTUM_LEFT, Region.APEX),
    (Region.SEPTUM_RIGHT, Region.RV_APEX),
    (Region.SEPTUM_RIGHT, Region.RV_FREE_WALL),
    (Region.SEPTUM_RIGHT, Region.RV_OUTFLOW),
    (Region.SEPTUM_RIGHT, Region.APEX),
    (Region.SEPTUM_RIGHT, Region.BASE_SEPTUM),
    (Region.APEX, Region.ANTERIOR),
    (Region.APEX, Region.LATERAL),
    (Region.APEX, Region.POSTERIOR),
    (Region.APEX, Region.INFERIOR),
    (Region.APEX, Region.RV_APEX),
    (Region.ANTERIOR, Region.LATERAL),
    (Region.ANTERIOR, Region.BASE_SEPTUM),
    (Region.ANTERIOR, Region.RV_FREE_WALL),
    (Region.LATERAL, Region.POSTERIOR),
    (Region.LATERAL, Region.BASE_LATERAL),
    (Region.POSTERIOR, Region.INFERIOR),
    (Region.POSTERIOR, Region.BASE_LATERAL),
    (Region.INFERIOR, Region.BASE_LATERAL),
    (Region.INFERIOR, Region.RV_APEX),
    (Region.BASE_LATERAL, Region.BASE_SEPTUM),
    (Region.BASE_SEPTUM, Region.RV_OUTFLOW),
    (Region.RV_FREE_WALL, Region.RV_APEX),
    (Region.RV_FREE_WALL, Region.RV_OUTFLOW),
)
FUSION_MS = 3.0
#: Spread (standard deviation) of activation times within a region that its terminals activate, and of one that a front
#: crosses (design: 20 ms of wall; 4 cm at the muscle's velocity, evenly).
TERMINAL_SPREAD_MS, CROSSED_SPREAD_MS = 6.5, 11.0
#: A focus spreads through its own region slowly and in all directions but outwards: its moment is small and points to
#: the heart's middle (design; delta waves, and the slow start of ectopic and paced beats).
FOCUS_SPREAD_MS, FOCUS_COHERENCE = 14.0, 0.6
FROM_FOCUS = (-FOCUS_COHERENCE * POSITION_CM / np.linalg.norm(POSITION_CM, axis=1, keepdims=True)).astype(np.float32)


def _routes() -> tuple[np.ndarray, np.ndarray]:
    """Times of the shortest routes through muscle between regions, ms, and the direction of each one's last step."""
    travel = np.full((REGIONS, REGIONS), NEVER_MS)
    np.fill_diagonal(travel, 0.0)
    before = np.tile(np.arange(REGIONS)[:, None], (1, REGIONS))
    for a, b in NEIGHBOURS:
        steps_ms = 10.0 * np.linalg.norm(POSITION_CM[a] - POSITION_CM[b]) / MUSCLE_VELOCITY_MM_PER_MS
        septal = {a, b} == {Region.SEPTUM_LEFT, Region.SEPTUM_RIGHT}
        travel[a, b] = travel[b, a] = steps_ms + septal * ACROSS_SEPTUM_MS
    for middle in range(REGIONS):
        detour = travel[:, middle : middle + 1] + travel[middle]
        shorter = detour < travel - 1e-9
        travel, before = np.where(shorter, detour, travel), np.where(shorter, before[middle], before)
    step = POSITION_CM[None] - POSITION_CM[before]
    length = np.linalg.norm(step, axis=-1, keepdims=True)
    direction = np.divide(step, length, out=np.zeros_like(step), where=length > 0)
    direction[np.arange(REGIONS), np.arange(REGIONS)] = NORMAL
    return travel.astype(np.float32), direction.astype(np.float32)


#: From each region to each: ms, and the unit vector along which the front arrives (heart's frame); to itself, its
#: normal.
TRAVEL_MS, ARRIVAL = _routes()


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Conduction:
    """The state of the conduction system, as arrays that compose: delays add, the earliest entry counts."""

    delay_ms: jax.Array  # (4,) of each fascicle; `NEVER_MS` for a block
    focus_ms: jax.Array  # (12,) when a focus, lead or pathway enters a region; `NEVER_MS` for none
    jitter_ms: jax.Array  # (12,) by which a patient's terminals differ from the table
    crossed_spread: jax.Array | float = 1.0  # () factor of the spread of activation in regions that a front crosses
    travel: jax.Array | float = 1.0  # () factor of times through muscle


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Activation:
    """When and how the regions are activated; times from the moment at which the His bundle's impulse arrives."""

    time_ms: jax.Array  # (12,)
    spread_ms: jax.Array  # (12,)
    direction: jax.Array  # (12, 3) heart's frame; shorter than 1 where fronts meet


def normal_conduction() -> Conduction:
    """Conduction without delay, block or focus."""
    return Conduction(jnp.zeros(len(Fascicle)), jnp.full(REGIONS, NEVER_MS), jnp.zeros(REGIONS))


def activate(conduction: Conduction) -> Activation:
    """Activation times, spreads and directions of the regions under a state of conduction."""
    terminals_ms = (jnp.asarray(ENTRY_MS) + conduction.delay_ms[:, None]).min(0) + conduction.jitter_ms
    entry_ms = jnp.minimum(terminals_ms, conduction.focus_ms)
    route_ms = entry_ms[:, None] + conduction.travel * jnp.asarray(TRAVEL_MS)
    share = jax.nn.softmax(-(route_ms - route_ms.min(0)) / FUSION_MS, axis=0)
    time_ms = (share * jnp.minimum(route_ms, 2 * NEVER_MS)).sum(0)
    own = jnp.diagonal(share)
    by_focus = own * jax.nn.sigmoid((terminals_ms - conduction.focus_ms) / FUSION_MS)
    by_terminal = own - by_focus
    spread_ms = (
        by_terminal * TERMINAL_SPREAD_MS
        + by_focus * FOCUS_SPREAD_MS
        + (1.0 - own) * (conduction.crossed_spread * CROSSED_SPREAD_MS)
    )
    direction = jnp.einsum("kr,krx->rx", share, jnp.asarray(ARRIVAL))
    direction = direction + by_focus[:, None] * jnp.asarray(FROM_FOCUS - NORMAL)
    return Activation(time_ms, spread_ms, direction)


declare(
    "sources.conduction",
    vars(),
    "NEVER_MS ENTRY_MS NEIGHBOURS MUSCLE_VELOCITY_MM_PER_MS ACROSS_SEPTUM_MS FUSION_MS TERMINAL_SPREAD_MS "
    "CROSSED_SPREAD_MS FOCUS_SPREAD_MS FOCUS_COHERENCE FROM_FOCUS TRAVEL_MS ARRIVAL _TERMINALS",
    version=3,
)
