"""What a run is, as frozen dataclasses. Hardware is no part of it.

A run is fixed by a `RunConfig`. Runs that differ only in `budget_records` share a trunk; the trunk's identity is
the fingerprint of the config without its budget. A field that comes to a config later is written `added(schema,
default)` (`codec`) with the next number of `SCHEMA`: no stored run changes its identity by it.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
import math
from fractions import Fraction
from typing import Any, Self

from ecg_jax.codec import coerce_fields, fingerprint, from_json, to_json, written_fields
from ecg_jax.data.ecg import INDEPENDENT_LEADS, RecordPool
from ecg_jax.data.mixture import Mixture

#: Counts the changes of the fields below; written with every config that is kept.
SCHEMA = 1


#: A real fraction is the ratio of a denominator up to the first that comes nearest, so that 0.333333333 is a third, and
#: up to the second where it would be pure. Larger ones would overflow 64 bits at 9 billion records.
RATIO, FINEST_RATIO = 1_000_000, 1_000_000_000


class Architecture(enum.StrEnum):
    """Architectures; `models.build` and `scaling.flops.arithmetic` match on it."""

    TRANSFORMER = "transformer"


class Attention(enum.StrEnum):
    """Which tokens a token sees: all of its record, or those up to its own time."""

    BIDIRECTIONAL = "bidirectional"
    CAUSAL = "causal"


class Readout(enum.StrEnum):
    """What is predicted of a sample: its value, or the mean and log scale of a Gaussian."""

    VALUE = "value"
    GAUSSIAN = "gaussian"


class Objective(enum.StrEnum):
    """Pretraining objectives, each with what it asks of its model; `objectives.of` matches on it."""

    attention: Attention
    readout: Readout

    #: Lead x time cells are hidden: the primary response.
    MASKED = "masked", Attention.BIDIRECTIONAL, Readout.VALUE
    #: All leads are hidden for whole patches.
    WHOLE_TIME = "whole_time", Attention.BIDIRECTIONAL, Readout.VALUE
    #: A Gaussian likelihood of the next patch, given all before it.
    NEXT_PATCH = "next_patch", Attention.CAUSAL, Readout.GAUSSIAN

    def __new__(
        cls, value: str, attention: Attention = Attention.BIDIRECTIONAL, readout: Readout = Readout.VALUE
    ) -> Self:
        """A member that is its name, as every option is."""
        member = str.__new__(cls, value)
        member._value_, member.attention, member.readout = value, attention, readout
        return member


class Tokens(enum.StrEnum):
    """What one token holds: a time patch of all leads, or of one of the eight independent leads."""

    TIME = "time"
    LEAD_TIME = "lead_time"


class Parametrisation(enum.StrEnum):
    """How initial weights and rates depend on width and depth; see `mup`."""

    COMPLETE_P = "complete_p"
    STANDARD = "standard"


class Precision(enum.StrEnum):
    """What matrix products are computed in. Parameters, reductions and the optimiser are float32 always."""

    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"


class Optimiser(enum.StrEnum):
    """Optimisers; `train.optimizer.optimiser` matches on it."""

    ADAMW = "adamw"
    MUON = "muon"


class Mixing(enum.StrEnum):
    """What a mixed run is to be compared with: pure real at equal records, or at equal real exposures."""

    REPLACEMENT = "replacement"  # synthetic records in place of real ones
    ADDITIVE = "additive"  # on top of them: the budget is 1 / real_fraction times that of the pure real run


class Position(enum.StrEnum):
    """How the model knows where in time a token lies."""

    LEARNED = "learned"
    SINUSOIDAL = "sinusoidal"
    ROTARY = "rotary"


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """A transformer over patches of ECG. `ladder.model_config` gives one per size.

    A patch holds `patch_samples` samples; a record `patches` of them. With `stem_samples`, every lead of a patch is
    first mapped to so many numbers (and back at the end), so that the blocks see the same patch at every sample rate;
    None: there is no stem.
    """

    width: int
    depth: int
    heads: int
    patch_samples: int = 20
    patches: int = 50
    stem_samples: int | None = None
    architecture: Architecture = Architecture.TRANSFORMER
    tokens: Tokens = Tokens.TIME
    position: Position = Position.LEARNED
    attention: Attention = Attention.BIDIRECTIONAL
    readout: Readout = Readout.VALUE
    parametrisation: Parametrisation = Parametrisation.COMPLETE_P
    precision: Precision = Precision.FLOAT32

    def __post_init__(self) -> None:
        coerce_fields(self)
        sizes = (self.width, self.depth, self.heads, self.patch_samples, self.patches)
        if min(sizes) < 1 or (self.stem_samples is not None and self.stem_samples < 1):
            raise ValueError(f"every size of a model must be at least 1: {self}")
        if self.width % self.heads:
            raise ValueError(f"width = {self.width} does not divide by heads = {self.heads}")
        if self.position is not Position.LEARNED and (self.width // self.heads) % 2:
            raise ValueError(f"{self.position} positions need an even head size, not {self.width // self.heads}")

    @property
    def samples(self) -> int:
        """Samples per lead that the model reads."""
        return self.patch_samples * self.patches

    @property
    def tokens_per_record(self) -> int:
        """Tokens of a record, visible or not."""
        return self.patches * (1 if self.tokens is Tokens.TIME else len(INDEPENDENT_LEADS))

    @property
    def head_size(self) -> int:
        """Channels per attention head."""
        return self.width // self.heads

    @property
    def patch_features(self) -> int:
        """Numbers per lead and patch behind the stem, or the samples themselves where there is none."""
        return self.patch_samples if self.stem_samples is None else self.stem_samples


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """What the model is trained on.

    `real_source` and `synthetic_source` name what the study passes as sources, by fingerprint, so that a run
    never continues on other data. `real_patients` cuts the real pool to its first patients after a shuffle seeded
    with `pool_shuffle`; None takes all. `synthetic_records` makes the synthetic source a finite pool; None: infinite.
    `tier` is the generator's place on the realism ladder (`data.synthetic.Tier`), and `real_information` what it knows
    of real recordings: "published statistics", or the pool that its priors were fitted to. `mixing` changes no record.
    """

    real_fraction: float
    real_source: str
    synthetic_source: str
    real_patients: int | None = None
    pool_shuffle: int = 0
    synthetic_records: int | None = None
    mixing: Mixing = Mixing.REPLACEMENT
    sample_rate_hz: int = 100
    tier: str = "T1d"
    real_information: str = "published statistics"

    def __post_init__(self) -> None:
        coerce_fields(self)
        if not 0.0 <= self.real_fraction <= 1.0:
            raise ValueError(
                f"real_fraction = {self.real_fraction} lies outside [0, 1]: 0 is pure synthetic, 1 is pure real"
            )
        if 0 < self.real_fraction < 1 and self.ratio in (0, 1):
            raise ValueError(
                f"real_fraction = {self.real_fraction} is less than one record in {FINEST_RATIO:,} from pure: give 0 "
                "or 1 if that is meant"
            )
        for name in ("real_patients", "synthetic_records"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} = {value} must be at least 1, or None for all")

    @property
    def ratio(self) -> Fraction:
        """`real_fraction` as the exact ratio it stands for; never pure, 0 or 1, unless it is."""
        exact, most = Fraction(self.real_fraction), RATIO
        while (ratio := exact.limit_denominator(most)) in (0, 1) and ratio != exact and most < FINEST_RATIO:
            most *= 10
        return ratio


@dataclasses.dataclass(frozen=True)
class OptimConfig:
    """A warm-up, a stable rate and a linear cool-down over the last part of each budget.

    `learning_rate` is the base rate, the same for all sizes: `mup` gives every weight its multiple of it.
    """

    learning_rate: float
    optimiser: Optimiser = Optimiser.ADAMW
    weight_decay: float = 0.05
    warmup_records: int = 256
    cooldown_fraction: float = 0.25
    gradient_clip: float = 1.0

    def __post_init__(self) -> None:
        coerce_fields(self)
        if not 0 < self.learning_rate < math.inf:
            raise ValueError(f"learning_rate = {self.learning_rate} must be positive")
        if not 0 < self.cooldown_fraction < 1:
            raise ValueError(f"cooldown_fraction = {self.cooldown_fraction} lies outside (0, 1)")
        if not (0 <= self.weight_decay < math.inf and self.warmup_records >= 0 and self.gradient_clip > 0):
            raise ValueError(f"weight_decay, warmup_records >= 0 and gradient_clip > 0 are needed: {self}")


@dataclasses.dataclass(frozen=True)
class RunConfig:
    """One run: everything that decides its numbers, and nothing else."""

    study: str
    model: ModelConfig
    data: DataConfig
    optim: OptimConfig
    budget_records: int
    batch_records: int = 64
    mask_ratio: float = 0.6
    objective: Objective = Objective.MASKED
    response: str = ""
    seed: int = 0

    def __post_init__(self) -> None:
        coerce_fields(self)
        if self.batch_records < 1:
            raise ValueError(f"batch_records = {self.batch_records} must be at least 1")
        if self.budget_records % self.batch_records:
            raise ValueError(
                f"budget_records = {self.budget_records} is not a multiple of batch_records = {self.batch_records}"
            )
        if not 1 <= self.branch_step < self.budget_steps:
            raise ValueError(
                f"a budget of {self.budget_records} records is {self.budget_steps} steps of {self.batch_records}: "
                f"too few for a cool-down over {self.optim.cooldown_fraction:.0%} of them"
            )
        if not 0 < self.mask_ratio < 1:
            raise ValueError(f"mask_ratio = {self.mask_ratio} lies outside (0, 1)")
        attention, readout = self.objective.attention, self.objective.readout
        if (self.model.attention, self.model.readout) != (attention, readout):
            raise ValueError(
                f"objective = {self.objective} needs {attention} attention and a {readout} read-out; the model has "
                f"{self.model.attention} attention and a {self.model.readout} read-out"
            )

    @property
    def budget_steps(self) -> int:
        """Optimiser steps of the whole run, cool-down included."""
        return self.budget_records // self.batch_records

    @property
    def warmup_steps(self) -> int:
        """Optimiser steps over which the learning rate rises."""
        return -(-self.optim.warmup_records // self.batch_records)

    @property
    def branch_step(self) -> int:
        """The step at which this run leaves its trunk and begins to cool down."""
        return self.budget_steps - max(1, round(self.budget_steps * self.optim.cooldown_fraction))

    @property
    def trunk_id(self) -> str:
        """The fingerprint of everything but the budget."""
        return self._trunk_id

    @property
    def run_id(self) -> str:
        """The fingerprint of the whole config."""
        return self._run_id

    # Worked out once: a config never changes. No fields, so no part of equality.
    @functools.cached_property
    def _trunk_id(self) -> str:
        return fingerprint({k: v for k, v in written_fields(self).items() if k != "budget_records"})

    @functools.cached_property
    def _run_id(self) -> str:
        return fingerprint(written_fields(self))

    def __getstate__(self) -> dict[str, Any]:
        """The fields alone: the process that gets them works the ids out for itself."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}

    def stored(self) -> dict[str, Any]:
        """The config as it is kept in files: its JSON form, and the schema that its fields belong to."""
        return {"schema": SCHEMA, **to_json(self)}

    @classmethod
    def from_json(cls, tree: dict[str, Any]) -> Self:
        """The config that `stored` gave. Raises ValueError on unknown, missing or mistyped fields, naming them."""
        return from_json(cls, tree, SCHEMA)


def mixture_of(config: RunConfig, pool: RecordPool) -> Mixture:
    """The mixture of a run over its pool, whose sources share the real stream."""
    parts = pool.parts
    weights = tuple(part.weight for part in parts if part.weight is not None)
    return Mixture(
        seed=config.seed,
        batch_records=config.batch_records,
        ratio=config.data.ratio,
        real_records=tuple(len(part.rows) for part in parts),
        synthetic_records=config.data.synthetic_records,
        real_weights=weights if len(weights) == len(parts) else None,
    )
