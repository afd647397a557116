"""The model card that is written with every encoder: what it learnt from, how well, and what it is not for."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from ecg_jax import objectives
from ecg_jax.config import RunConfig
from ecg_jax.data.ecg import RecordPool
from ecg_jax.data.real.fetch.publishers import PUBLICATIONS
from ecg_jax.data.synthetic.render.tiers import CONTENT
from ecg_jax.data.synthetic.standin import SOURCE as STANDIN
from ecg_jax.outputs.row import sources
from ecg_jax.scaling.flops import parameters

#: Licence and attribution of recordings, by `RecordPool.source`.
LICENCES = {
    "ptbxl": (
        "PTB-XL 1.0.3, CC BY 4.0 (https://creativecommons.org/licenses/by/4.0). Wagner, P., Strodthoff, N., "
        "Bousseljot, R.-D., Kreiseler, D., Lunze, F. I., Samek, W., Schaeffter, T.: PTB-XL, a large publicly available "
        "electrocardiography dataset. Scientific Data 7:154 (2020), doi 10.1038/s41597-020-0495-6; data: PhysioNet, "
        "doi 10.13026/kfzx-aw45. Changed: band-passed, resampled, scaled per lead"
    ),
    STANDIN: "rendered by ecg-jax itself (Apache-2.0): a stand-in, not real ECG",
}
_STANDIN_NOTE = """
**Stand-in, not real.** There were no real recordings at hand: what this card calls real are another generator's.
"""


_LIMITS = """\
For research only. This is not a medical device: it was validated for no diagnosis, no patient group and no recorder,
and must not inform the care of anybody. It is meant for the study of pretraining (size, data, mix) and as a fixed
feature extractor in such studies. It learnt from the records above only; patients, recorders, rates, filters and lead
placements unlike theirs lie outside what it knows. Absolute amplitude is taken out of its input. Subsets of the limb
leads, and flat leads, were rare or absent in training."""


@dataclasses.dataclass(frozen=True)
class CardFacts:
    """What a card tells beside the config: the run's record (`row.row`), the real records that it drew from, and
    those that it was judged on."""

    record: dict[str, Any]
    training: RecordPool
    heldout: RecordPool


def model_card(config: RunConfig, facts: CardFacts) -> str:
    """The card, Markdown."""
    c, record, counts = config, facts.record, parameters(config.model)
    words = objectives.of(c.objective).words
    early = "\n\n**It has hardly begun to learn its task.**" if record["pre_transition"] else ""
    standin = STANDIN in (facts.training.source, facts.heldout.source)
    return f"""# ECG encoder of {counts.blocks:,} parameters

Features of 12-lead ECG from self-supervised pretraining: run `{c.run_id}` of the study "{c.study}", made with ecg-jax.
{_STANDIN_NOTE if standin else ""}
```python
import ecg_jax

encoder = ecg_jax.load_encoder("FOLDER")  # the folder of this file
# (records, {c.model.samples}, 12) at {c.data.sample_rate_hz} Hz -> (records, {c.model.width})
features = encoder(ecg)
```

Leads I, II, III, aVR, aVL, aVF, V1-V6; int16 or float, in any unit. `encoder(ecg, leads=("I", "II"))` takes fewer, or
another order; `encoder.tokens(ecg)` gives {c.model.tokens_per_record} tokens per record.

## Data

{_data(c, facts)}

## Model and training

| | |
|---|---|
| architecture | {c.model.architecture}, width {c.model.width}, depth {c.model.depth}, heads {c.model.heads} |
| parameters | {counts.blocks:,} in blocks, {counts.total:,} in all |
| input | {c.model.samples / c.data.sample_rate_hz:g} s at {c.data.sample_rate_hz} Hz, in patches of \
{1000 * c.model.patch_samples / c.data.sample_rate_hz:g} ms |
| objective | {c.objective}: {words.task.format(f"{c.mask_ratio:.0%}")} |
| budget | {c.budget_records:,} records ({c.budget_steps:,} steps of {c.batch_records}), \
{record["train_flops"]:.3g} FLOPs, seed {c.seed} |
| optimiser | {c.optim.optimiser}, base rate {c.optim.learning_rate:g}, weight decay {c.optim.weight_decay:g} |

## Losses

On {_told(facts.heldout)} held out by patient ({facts.heldout.source}; response `{c.response}`): {words.loss}.

| | loss |
|---|---|
| this model | {record["loss"]:.4f} |
| {words.linear}, fitted to the training records | {record["loss_linear"]:.4f} |
| {words.mean} | {record["loss_mean"]:.4f} |

The loss tells how well a signal is completed, not how well a disease is told.{early}

## Use and limits

{_LIMITS}

## Licences of the data

{_licences(c, facts)}
"""


def _data(c: RunConfig, facts: CardFacts) -> str:
    real, record = facts.training, facts.record
    seen = f"{record['real_seen']:,} of the {c.budget_records:,} records seen"
    lines = [f"Real fraction {c.data.real_fraction:g}: {seen} are from the real pool.", ""]
    if record["real_seen"]:
        lines.append(
            f"- real pool: {_told(real)} of {real.source}, seen {record['epochs_real']:.3g} times each on average "
            f"(`{c.data.real_source}`)"
        )
        if real.origins is not None:
            lines += [
                f"  - {row.source}: {row.records:,} records of {row.patients:,} patients, {row.seen:,} seen"
                for row in sources(c, real).itertuples()
            ]
    else:
        lines.append("- real pool: none; the weights saw no recording of it")
    if record["real_seen"] < c.budget_records:
        content = {tier.value: text for tier, text in CONTENT.items()}.get(c.data.tier, "not described here")
        content = f"the tier below, and {content[2:]}" if content.startswith("+ ") else content
        pool = f"a pool of {c.data.synthetic_records:,} records" if c.data.synthetic_records else "unlimited"
        lines += [
            f"- synthetic source: tier {c.data.tier} ({content}), {pool} (`{c.data.synthetic_source}`)",
            f"- what the generator knows of real recordings: {c.data.real_information}",
        ]
    return "\n".join(lines)


def _licences(c: RunConfig, facts: CardFacts) -> str:
    parts = {facts.heldout.source: ["measured on"]}
    for part in facts.training.parts:
        if facts.record["real_seen"]:
            parts.setdefault(part.source, []).append("trained on")
        elif c.data.real_information.startswith("pool "):
            parts.setdefault(part.source, []).append("priors of the generator fitted to")
    lines = [f"- {name} ({', '.join(uses)}): {_licence(name)}." for name, uses in parts.items()]
    if facts.record["real_seen"] < c.budget_records:
        lines.append("- synthetic (trained on): rendered by ecg-jax itself (Apache-2.0).")
    return "\n".join(lines)


def _licence(source: str) -> str:
    if source in LICENCES:
        return LICENCES[source]
    if source in PUBLICATIONS:
        published = PUBLICATIONS[source]
        return f"{published.title}, {published.licence}. {published.cite}. Changed: band-passed, resampled"
    return "licence not known to ecg-jax: ask its publisher before handing the weights on"


def _told(pool: RecordPool) -> str:
    return f"{len(pool):,} records of {len(np.unique(pool.patient_id)):,} patients"
