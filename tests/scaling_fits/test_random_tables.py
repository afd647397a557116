"""Whatever table comes: a fit whose numbers are sound, or one error that says what is wrong. Never silent nonsense."""

import json

import numpy as np
import pandas as pd
import pytest
from exported import exported

from scaling_fits.estimation.multistart import Search
from scaling_fits.fit import fit
from scaling_fits.laws.size_and_data import CHINCHILLA, power_law
from scaling_fits.uncertainty.bootstrap import Bootstrap

FLAWS = (
    "none", "nan loss", "infinite loss", "zero loss", "negative loss", "one size", "collinear", "few rows",
    "text", "missing column", "huge units", "zero size", "nan size", "all excluded", "twice the same row",
)  # fmt: skip


LENGTHS = (1, 5, 8, 16, 32)  # few: each is compiled once


def random_table(rng: np.random.Generator, lengths: tuple[int, ...]) -> tuple[pd.DataFrame, str]:
    rows = int(rng.choice(lengths))
    n = 10 ** rng.uniform(3, 9, rows) if rng.random() < 0.5 else rng.choice(10.0 ** rng.uniform(3, 9, 4), rows)
    d = 10 ** rng.uniform(2, 8, rows)
    law = rng.uniform(0, 1) + 10 ** rng.uniform(-1, 3) / n ** rng.uniform(0, 1) + 10 ** rng.uniform(-1, 3) / d**0.4
    table = pd.DataFrame(
        {"n_params": n, "records_seen": d, "loss": law * np.exp(rng.normal(0, rng.choice([0, 0.01, 1]), rows))}
    )
    flaw, at = str(rng.choice(FLAWS)), int(rng.integers(rows))
    match flaw:
        case "nan loss":
            table.loc[at, "loss"] = np.nan
        case "infinite loss":
            table.loc[at, "loss"] = np.inf
        case "zero loss":
            table.loc[at, "loss"] = 0.0
        case "negative loss":
            table.loc[at, "loss"] = -1.0
        case "one size":
            table["n_params"] = 1e6
        case "collinear":
            table["records_seen"] = 20 * table["n_params"]
        case "few rows":
            table = table.iloc[:4]
        case "text":
            table["loss"] = table["loss"].astype(object)
            table.loc[at, "loss"] = "oops"
        case "missing column":
            table = table.drop(columns=str(rng.choice(["n_params", "records_seen", "loss"])))
        case "huge units":
            table["loss"] *= 10.0 ** rng.uniform(-200, 200)
        case "zero size":
            table.loc[at, "n_params"] = 0.0
        case "nan size":
            table.loc[at, "n_params"] = np.nan
        case "all excluded":
            table = exported(table).assign(diverged=True)
        case "twice the same row":
            table = pd.concat([table, table.iloc[[at] * 3]], ignore_index=True)
    return table, flaw


REFUSED = {"zero loss", "negative loss", "collinear", "few rows", "text", "missing column", "zero size", "nan size"}
REFUSED |= {"all excluded"}


def check(seed: int, lengths: tuple[int, ...] = LENGTHS) -> str:
    rng = np.random.default_rng(seed)
    table, flaw = random_table(rng, lengths)
    law = CHINCHILLA if rng.random() < 0.8 else power_law("N")
    try:
        fitted = fit(law, table, bootstrap=Bootstrap(0), profiles=False, search=Search(starts=32))
    except (ValueError, FileNotFoundError) as error:
        message = str(error)
        assert 20 < len(message) < 1000 and "\n" not in message
        return "refused"
    assert law is not CHINCHILLA or flaw not in REFUSED, f"seed {seed}: {flaw} passed unnoticed"
    values = np.array(list(fitted.parameters.values()))
    assert np.isfinite(values).all() and (values >= 0).all(), f"seed {seed}: {fitted.parameters}"
    at = table[np.isfinite(table["loss"])]  # repeats too: without names of runs they may be runs of their own
    predicted = fitted.predict(**{letter: at[column] for letter, column in fitted.data.columns.items()})
    assert np.isfinite(predicted).all() and (predicted > 0).all()
    # What is reported is what the constants give, and no worse than the best constant.
    assert fitted.data.rows == len(at) and fitted.certificate.converged
    json.loads(fitted.to_json())
    level = np.abs(np.log(at["loss"]) - np.median(np.log(at["loss"]))).sum()
    assert np.abs(fitted.residuals).sum() <= level * (1 + 1e-3) + 2e-3 * len(at), f"seed {seed}"
    return "fitted"


def test_random_tables():
    found = [check(seed, (1, 16)) for seed in range(80)]
    assert {"refused", "fitted"} == set(found) and found.count("fitted") > 15


@pytest.mark.long
def test_ten_thousand_random_tables():
    found = [check(seed) for seed in range(10_000)]
    assert {"refused", "fitted"} == set(found)
