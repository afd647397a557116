"""From patients to records: the tiers, the sampler, the renderer, and what is part of its identity."""
