"""The identity of what the generator emits: a hash over its version, every constant of the package, and the recipe."""

from __future__ import annotations

import hashlib
import importlib
import json
import pkgutil

from ecg_jax.data import ecg, preprocess
from ecg_jax.data.synthetic.constants import declare, declared, to_plain
from ecg_jax.data.synthetic.render.tiers import Recipe, Tier, recipe

#: Modules and sub-packages that measure, draw or store records, or stand in for real ones, and decide nothing in them.
NOT_RENDERING = (
    "__main__",
    "annotate",
    "identity",
    "constants",
    "standin",
    "norms",
    "gallery",
    "one_beat",
)
_PACKAGE = "ecg_jax.data.synthetic"

#: Generator version 2 hashed a constant once more for each module that imported it: `(owner, where from, names)`. Kept
#: so that its fingerprint holds; a new version needs none of it.
_IMPORTED = (
    ("acquisition", "leads", "ELECTRODES ELECTRODES_TO_LEADS"),
    ("arrhythmia", "ectopy", "ECTOPIC_P_GAIN"),
    ("arrhythmia", "rhythm", "LF_COMPONENTS WIDE_QRS_MS"),
    ("ecgsyn", "leads", "DOWER"),
    ("ecgsyn", "morphology", "CENTRE_MS VECTOR_MV WIDTH_MS"),
    ("edits", "kernels", "I II AVL AVF V1 V2 V3 V4 V5 V6"),
    ("fitted", "decomposition", "BAND_EDGES_HZ BANDS CENTRE_S KERNELS WIDTH_S"),
    ("fitted", "ecg", "INDEPENDENT_LEAD_INDICES"),
    ("generator", "arrhythmia", "FASTEST_BPM"),
    ("generator", "leads", "ELECTRODES_TO_LEADS"),
    ("kernels", "leads", "DOWER"),
    ("morphology", "edits", "NORMAL_T P_THRESHOLD_MV QRS_THRESHOLD_MV"),
    ("morphology", "kernels", "AVL P P_WAVE QRS QRS_WIDE ST_AT_J T T_AT_PEAK T_SHARES T_WIDE V1 V3 V5 V6"),
    ("noise", "acquisition", "LOWEST_LOWPASS_HZ"),
    ("noise", "leads", "ELECTRODES"),
    ("pathology", "edits", "QRS_THRESHOLD_MV"),
    ("pathology", "kernels", "QRS_WIDE T_SHARES VENTRICULAR_SPIKE"),
    ("patient", "draws", "TRUNCATION_SD"),
    ("sampling", "kernels", "P QRS QRS_WIDE T T_WIDE"),
    ("sampling", "rhythm", "ABSENT_S"),
    ("source", "draws", "VISITS"),
    ("source", "ecg", "LEADS"),
    ("surrogate", "ecg", "INDEPENDENT_LEAD_INDICES"),
    ("tiers", "conditions", "PREVALENCE UNIFORM"),
    ("tiers", "patient", "ADULT"),
)


def rendering_modules() -> list[str]:
    """The full names of the package's modules that decide what a record holds, sub-packages included."""
    package = importlib.import_module(_PACKAGE)
    found = pkgutil.walk_packages(package.__path__, f"{_PACKAGE}.")
    return [info.name for info in found if not set(info.name[len(_PACKAGE) + 1 :].split(".")) & set(NOT_RENDERING)]


def constants() -> dict[str, object]:
    """Every constant that the modules which make records have declared, by key."""
    for name in rendering_modules():
        importlib.import_module(name)
    found = declared()
    outside = {"ecg.LEADS", "ecg.INDEPENDENT_LEAD_INDICES"}
    repeats = {
        f"{owner}.{name}": found[f"{origin}.{name}"] for owner, origin, names in _IMPORTED for name in names.split()
    }
    repeats["generator.ATRIAL_DRAWS"] = found["atrial.DRAWS"]
    return {key: value for key, value in {**found, **repeats}.items() if key not in outside}


def fingerprint(made_by: Recipe | None = None, pool_digest: str = "") -> str:
    """SHA-256 of the generator's constants, a recipe (default: tier T1d) and, for a fitted tier, its pool's digest."""
    if made_by is None:
        made_by = recipe(Tier.ACQUISITION)
    identity = {"constants": constants(), "recipe": to_plain(made_by), "pool": pool_digest}
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()


declare("ecg", vars(ecg), "LEADS INDEPENDENT_LEAD_INDICES")
declare("preprocess", vars(preprocess), "BAND_HZ BUTTERWORTH_ORDER FILTER_RATE_HZ COUNTS_PER_UNIT")
