"""Comparisons of one set of records with a reference, as rows of the result table."""

from __future__ import annotations

import dataclasses
import enum

import numpy as np

from benchmarks.realism import metrics, tell_apart, transfer
from benchmarks.realism.beats import MEASURES
from benchmarks.realism.features import Described
from benchmarks.realism.metrics import Embedding, Estimate, embedding
from benchmarks.realism.network import Training
from benchmarks.realism.sources import Records
from ecg_jax.data.ecg import INDEPENDENT_LEADS
from ecg_jax.data.synthetic.render.tiers import Tier

__all__ = ["Settings", "audits", "distances", "embedding", "evenly", "split_half", "told_apart", "transferred"]
Row = dict[str, object]
Labelled = tuple[np.ndarray, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Settings:
    """The size of a run; every source has `records` records, as far as it holds so many."""

    records: int = 400
    peer_records: int = 200
    seeds: int = 2
    draws: int = 200
    training: Training = dataclasses.field(default_factory=Training)
    transfer_training: Training = dataclasses.field(default_factory=lambda: Training(steps=700))
    tiers: tuple[Tier, ...] = tuple(Tier)
    transfer_tiers: tuple[Tier, ...] = (Tier.CONDITIONS, Tier.ACQUISITION)
    transfer_records: tuple[int, ...] = (768, 3072)

    def plain(self) -> dict[str, object]:
        """As JSON writes it."""
        tree = dataclasses.asdict(self)
        plain = lambda x: x.value if isinstance(x, enum.Enum) else x  # noqa: E731
        return {key: [plain(x) for x in value] if isinstance(value, tuple) else value for key, value in tree.items()}


def evenly(count: int, limit: int) -> np.ndarray:
    """At most `limit` of `count` indices, evenly spaced."""
    return np.unique(np.linspace(0, count - 1, min(limit, count)).astype(int))


def split_half(records: Records) -> tuple[Records, Records]:
    """Two halves of a set of one record per patient."""
    order = np.random.default_rng(0).permutation(len(records.counts))
    halves = np.sort(order[: len(order) // 2]), np.sort(order[len(order) // 2 :])
    parts = [
        dataclasses.replace(records, counts=records.counts[rows], patient=records.patient[rows]) for rows in halves
    ]
    return parts[0], parts[1]


def _row(metric: str, estimate: Estimate, records: int) -> Row:
    return {"metric": metric, **dataclasses.asdict(estimate), "records": records}


def distances(real: Described, other: Described, by: Embedding, settings: Settings) -> list[Row]:
    """Spectra (and per lead), their spread, singular values, morphology (and per measure), discrepancy."""
    counts = (len(real.z), len(other.z))

    def row(metric: str, distance: metrics.Distance) -> Row:
        return _row(metric, metrics.half_sampled(distance, counts, settings.draws), counts[1])

    def spectra(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return metrics.spectrum_distance(real.log_psd[a], other.log_psd[b])

    def morphology(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return metrics.quantile_distances(real.measures[a], other.measures[b])

    rows = [
        row("spectrum_db", lambda a, b: float(spectra(a, b).mean())),
        row("spectrum_spread_db", lambda a, b: metrics.spread_distance(real.log_psd[a], other.log_psd[b])),
        row("singular_values", lambda a, b: metrics.profile_distance(real.singular[a], other.singular[b])),
        row("morphology", lambda a, b: float(morphology(a, b).mean())),
        row("mmd2", metrics.discrepancy(real.embedding.values, other.embedding.values, by)),
    ]
    per_lead = metrics.half_sampled_each(spectra, counts, settings.draws)
    per_measure = metrics.half_sampled_each(morphology, counts, settings.draws)
    rows += [_row(f"spectrum_db {lead}", e, counts[1]) for lead, e in zip(INDEPENDENT_LEADS, per_lead, strict=True)]
    return rows + [_row(f"morphology {name}", e, counts[1]) for name, e in zip(MEASURES, per_measure, strict=True)]


def told_apart(
    real: Records, known: Described, other: Records, other_known: Described, settings: Settings
) -> list[Row]:
    """How well a small network tells the two sets apart on held-out patients."""
    scores = tell_apart.network_scores(
        known.z, real.patient, other_known.z, other.patient, settings.seeds, settings.training
    )
    return [
        _row(name, metrics.resampled(scores, statistic, settings.draws), min(len(known.z), len(other_known.z)))
        for name, statistic in (("network_auroc", metrics.auroc), ("network_accuracy", tell_apart.balanced_accuracy))
    ]


def audits(real: Records, known: Described, other: Records, other_known: Described, settings: Settings) -> list[Row]:
    """What each set of features gives away."""
    rows = []
    for name, table in known.shortcuts.items():
        found = tell_apart.audit(
            table, other_known.shortcuts[name], real.patient, other.patient, settings.seeds, settings.draws
        )
        telling = {"telling": found.telling, "telling_auroc": found.telling_auroc}
        rows.append({"features": name, **dataclasses.asdict(found.auroc), **telling, "records": len(other.counts)})
    return rows


def transferred(source: str, train: Labelled, test: Labelled, settings: Settings) -> list[Row]:
    """Areas under the curve on the real half, mean and per superclass, after training on `train`."""
    scores = transfer.transfer_scores(train, test, settings.seeds, settings.transfer_training)
    label = {"reference": "PTB-XL", "source": source}
    rows = [
        label | _row("transfer_auroc", metrics.resampled(scores, transfer.mean_auroc, settings.draws), len(train[0]))
    ]
    for i, name in enumerate(transfer.SUPERCLASSES):
        one = [(truth[:, i], logits[:, i]) for truth, logits in scores]
        estimate = metrics.resampled(one, metrics.auroc, settings.draws)
        rows.append(label | _row(f"transfer_auroc {name}", estimate, len(train[0])))
    return rows
