"""The realism ladder: what a record is made of. Every component has its own switch; tiers are presets."""

from __future__ import annotations

import dataclasses
import enum

from ecg_jax.data.synthetic.constants import declare
from ecg_jax.data.synthetic.physiology.condition_mix import PREVALENCE, UNIFORM, ConditionMix
from ecg_jax.data.synthetic.physiology.patient import ADULT, Population
from ecg_jax.data.synthetic.recorder.acquisition import Acquisition
from ecg_jax.data.synthetic.recorder.noise import Noise


class Tier(enum.Enum):
    """The steps of the ladder, by the name that a run's `tier` column gives them."""

    NOISE = "T-1"
    ECGSYN = "T0"
    VECTORS = "T1a"
    ANATOMY = "T1b"
    CONDITIONS = "T1c"
    ACQUISITION = "T1d"
    FITTED = "T2"


#: What each tier adds to the one below, for help texts and tables.
CONTENT = {
    Tier.NOISE: "stationary noise with the mean cross-spectrum of a real pool: no heartbeat (a control)",
    Tier.ECGSYN: "ECGSYN's five kernels, the same for every patient, with heart rate, its variability and breathing",
    Tier.VECTORS: "wave vectors through Dower's lead field; each patient has intervals, axes and shapes of its own",
    Tier.ANATOMY: "+ electrode positions, what no dipole explains, and the heart turning with the breath",
    Tier.CONDITIONS: "+ 26 rhythms and 20 morphologies, labelled",
    Tier.ACQUISITION: "+ noise at the electrodes, swapped and loose electrodes, the recorder's filters and steps",
    Tier.FITTED: "shapes, rhythm and noise drawn from a density fitted to a real pool",
}


class Signal(enum.Enum):
    """Where the heart's signal comes from."""

    SURROGATE = "surrogate"
    ECGSYN = "ecgsyn"
    VECTORS = "vectors"
    FITTED = "fitted"


@dataclasses.dataclass(frozen=True)
class Recipe:
    """Everything that decides a synthetic record besides its seed, its index and priors fitted to a pool.

    `anatomy`, `residual` and `breathing` scale the population's lead-field jitter, its non-dipolar part and the turning
    of the heart with the breath: 0 switches one off, 1 is the population's own. `conditions`, `noise` and `acquisition`
    are None where the recipe has none.
    """

    signal: Signal = Signal.VECTORS
    population: Population = ADULT
    anatomy: float = 0.0
    residual: float = 0.0
    breathing: float = 0.0
    conditions: ConditionMix | None = None
    noise: Noise | None = None
    acquisition: Acquisition | None = None

    def __post_init__(self) -> None:
        for name in ("anatomy", "residual", "breathing"):
            if not 0.0 <= getattr(self, name) <= 5.0:
                raise ValueError(
                    f"{name} is {getattr(self, name)}: a scale of the population's own spread, from 0 (off) to 5"
                )
        of_vectors = ("anatomy", "residual", "breathing", "conditions", "noise", "acquisition")
        extras = [name for name in of_vectors if getattr(self, name)]
        if self.signal is not Signal.VECTORS and extras:
            raise ValueError(f"a recipe of signal {self.signal.value!r} has no {', '.join(extras)}: leave them out")

    @property
    def compiled(self) -> Recipe:
        """The recipe as compiled programs know it: how frequent the conditions are is data, and compiles nothing."""
        return self if self.conditions is None else dataclasses.replace(self, conditions=UNIFORM)

    @property
    def needs_priors(self) -> bool:
        """Whether the recipe draws on priors fitted to a real pool."""
        return self.signal in (Signal.SURROGATE, Signal.FITTED)


def tier_of(made_by: Recipe) -> Tier | None:
    """The tier whose recipe this is, whatever its population and mix of conditions; None for one of another make."""
    mix = made_by.conditions or PREVALENCE
    return next((tier for tier in Tier if recipe(tier, mix, made_by.population) == made_by), None)


def recipe(tier: Tier, mix: ConditionMix = PREVALENCE, population: Population = ADULT) -> Recipe:
    """The recipe of a tier; `mix` says how often each condition is drawn, from T1c up."""
    match tier:
        case Tier.NOISE:
            return Recipe(Signal.SURROGATE)
        case Tier.FITTED:
            return Recipe(Signal.FITTED)
        case Tier.ECGSYN:
            return Recipe(Signal.ECGSYN, population)
        case Tier.VECTORS:
            return Recipe(population=population)
        case Tier.ANATOMY:
            return Recipe(population=population, anatomy=1.0, residual=1.0, breathing=1.0)
        case Tier.CONDITIONS:
            return dataclasses.replace(recipe(Tier.ANATOMY, population=population), conditions=mix)
        case Tier.ACQUISITION:
            return dataclasses.replace(
                recipe(Tier.CONDITIONS, mix, population), noise=Noise(), acquisition=Acquisition()
            )


declare("tiers", vars(), "CONTENT")
