"""Encoders that were never trained, in folders as studies keep them."""

import jax
import numpy as np

from ecg_jax import models
from ecg_jax.distributed.mesh import make_mesh
from ecg_jax.encoder import export_encoder
from support.configs import make_config


def tiny_encoder(folder, seed=0, **changes):
    """An encoder of one narrow block with weights from `seed`, in `folder`; its config."""
    config = make_config(seed=seed, **changes)
    with jax.set_mesh(make_mesh(jax.devices()[:1])):
        params = models.build(config.model).init(jax.random.key(seed))
    export_encoder(folder, config, jax.tree.map(np.asarray, params), "# A card\n")
    return config
