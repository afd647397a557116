"""The sources that runs draw from, and what must not stand among them."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sized
from dataclasses import dataclass

import numpy as np

from ecg_jax.config import RunConfig
from ecg_jax.data.ecg import PUBLISHED, SIMULATED, STORED, RecordPool, Source, check_folds
from ecg_jax.data.mixture import SEED_STRIDE
from ecg_jax.data.synthetic.fitted.pool_identity import identify
from ecg_jax.data.synthetic.render.tiers import Tier


@dataclass(frozen=True)
class TrainingData:
    """The sources that runs draw from: all real training records, of one source or of several that `ecg.join` made one
    pool, and the synthetic sources by their identity, which is what `DataConfig.synthetic_source` names.

    Raises ValueError for simulated recordings among the real ones, for real ones in a synthetic pool, and for records
    of the folds of PTB-XL that are held out.
    """

    real: RecordPool
    synthetic: Mapping[str, Source]

    def __post_init__(self) -> None:
        check_trained_on(self.real)
        for name, source in self.synthetic.items():
            if isinstance(source, RecordPool):
                check_folds(source, f"the synthetic pool {name!r}")
                _check_not_real(name, source, self.real)

    def pool(self, config: RunConfig) -> RecordPool:
        """The real records of a run: all, or its first patients, as a view that all runs of them share."""
        if config.data.real_patients is None:
            return self.real
        cut = (config.data.real_patients, config.data.pool_shuffle)
        if cut not in self._nested:
            self._nested[cut] = self.real.first_patients(*cut)
        return self._nested[cut]

    @functools.cached_property
    def _nested(self) -> dict[tuple[int, int], RecordPool]:
        return {}

    def source(self, config: RunConfig) -> Source:
        """The synthetic source of a run. Raises ValueError when it is not there, or has less records than the run
        draws from it."""
        name, wanted = config.data.synthetic_source, config.data.synthetic_records
        if name not in self.synthetic:
            raise ValueError(f"run {config.run_id} draws from {name!r}; there are {sorted(self.synthetic)}")
        source = self.synthetic[name]
        held = _length(source)
        if held is not None and _last_synthetic(config) > held:
            raise ValueError(
                f"run {config.run_id} (seed {config.seed}) draws {'fresh' if wanted is None else f'{wanted:,}'} "
                f"records from {name!r}, a pool of {held:,}: say synthetic_records = {held}"
            )
        return source

    @functools.cached_property
    def _known(self) -> dict[tuple[int | None, int], str]:
        return {}

    def real_information(self, config: RunConfig) -> str:
        """What a generator knows that was fitted to the run's own real pool, as it enters a run's row."""
        key = (config.data.real_patients, config.data.pool_shuffle if config.data.real_patients else 0)
        if key not in self._known:  # a hash over all its signals
            self._known[key] = identify(self.pool(config)).real_information
        return self._known[key]


def check_trained_on(real: RecordPool) -> None:
    """Raises ValueError, by name, for records that are no recordings, or that PTB-XL's protocol holds out."""
    names = [part.source for part in real.parts if part.source.endswith(SIMULATED) or part.source == STORED]
    if names or real.simulated is not None:
        made_by = "" if real.simulated is None else f" of tier {real.simulated.tier or 'of their own make'}"
        raise ValueError(
            f"{', '.join(names) or real.source}: simulated ECG{made_by} is no real source; give it as a synthetic one"
        )
    check_folds(real, "the training records")


def _check_not_real(name: str, synthetic: RecordPool, real: RecordPool) -> None:
    """Raises ValueError for a synthetic pool that holds records of the real one, under the same names."""
    shared, ours, theirs = np.intersect1d(synthetic.record_id, real.record_id, return_indices=True)
    if synthetic.ecg.shape[1:] != real.ecg.shape[1:]:
        return
    for record, i, j in zip(shared, ours, theirs, strict=True):
        if np.array_equal(synthetic.ecg[i], real.ecg[j]):
            raise ValueError(f"the synthetic pool {name!r} holds {record} of the real records: it is no synthetic one")


def _last_synthetic(config: RunConfig) -> int:
    """The records that a run's synthetic source must hold."""
    if config.data.synthetic_records is not None:
        return config.data.synthetic_records
    ratio, records = config.data.ratio, config.budget_records
    return config.seed * SEED_STRIDE + records - records * ratio.numerator // ratio.denominator


def _length(source: Source) -> int | None:
    """How many records a source holds; None for an unbounded one."""
    try:
        return len(source) if isinstance(source, Sized) and hasattr(source, "read") else None
    except TypeError:
        return None


def check_information(config: RunConfig, data: TrainingData) -> None:
    """Refuses a run whose synthetic records are of another tier or know more of real recordings than it says, or were
    fitted to another pool than the run's own, whatever its real fraction: it is the source that says what it is."""
    if config.data.ratio == 1:
        return
    source, said = data.source(config), (config.data.tier, config.data.real_information)
    own = getattr(source, "simulated", None)
    tiers = {tier.value for tier in Tier}
    if own is None:
        if said[0] in (Tier.NOISE.value, Tier.FITTED.value) or said[1] != PUBLISHED:
            raise ValueError(
                f"run {config.run_id} says its synthetic records are of tier {said[0]} and know {said[1]!r}; their "
                "source does not say what made it: store it again with this version (ecg-jax synthetic store)"
            )
        return
    if own.tier != said[0] and (own.tier or said[0] in tiers):
        raise ValueError(
            f"run {config.run_id} says its synthetic records are of tier {said[0]}; their source is "
            f"{'of tier ' + own.tier if own.tier else 'of a recipe that is no tier: give it a name of its own'}"
        )
    if own.real_information != said[1]:
        raise ValueError(
            f"run {config.run_id} says its synthetic records know {said[1]!r}; their source knows "
            f"{own.real_information!r}"
        )
    if said[1].startswith("pool ") and said[1] != data.real_information(config):
        raise ValueError(
            f"run {config.run_id} mixes {data.real_information(config)} with synthetic records whose priors were "
            f"fitted to {said[1]}: fit them to the run's own pool"
        )
