"""What runs are judged by, and what must fit together before one starts."""

from __future__ import annotations

import dataclasses

from ecg_jax.config import RunConfig
from ecg_jax.data.synthetic.information import identify
from ecg_jax.evaluate import heldout as held
from ecg_jax.feed import TrainingData


@dataclasses.dataclass(frozen=True)
class Response:
    """Frozen records and masks, and the losses of the reference lines on them.

    `references` become columns of every row: `loss_mean` and `loss_linear` under all masks, and `curve_loss_mean` and
    `curve_loss_linear` under the first mask of each record, which learning curves are measured with.
    """

    heldout: held.HeldOut
    references: dict[str, float]


def check_response(config: RunConfig, response: Response) -> None:
    """Raises ValueError when a run is to be judged by another response."""
    patches = response.heldout.hidden.shape[2]
    if patches != config.model.patches or response.heldout.identity != config.response:
        raise ValueError(
            f"run {config.run_id} is to be judged by response {config.response!r} in {config.model.patches} patches, "
            f"but was given {response.heldout.identity!r} in {patches}"
        )


def check_information(config: RunConfig, data: TrainingData) -> None:
    """Refuses a run whose synthetic data know more of real recordings than it says, or than the pool they mix with."""
    if config.data.ratio == 1:
        return
    known, pool = config.data.real_information, data.pool(config)
    own = getattr(data.source(config), "real_information", known)  # a pool of records knows nothing of its own
    if own != known:
        raise ValueError(f"run {config.run_id} says its synthetic records know {known!r}; their source knows {own!r}")
    if config.data.real_fraction > 0 and known.startswith("pool ") and known != identify(pool).real_information:
        raise ValueError(
            f"run {config.run_id} mixes {identify(pool).real_information} with synthetic records whose priors were "
            f"fitted to {known}: fit them to the run's own pool"
        )
