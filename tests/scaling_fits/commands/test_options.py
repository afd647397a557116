"""The command line: every option that a command lists has an effect on what it prints or writes, or is refused."""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from scaling_fits.__main__ import main
from scaling_fits.commands.command_line import parsers

COMMANDS = parsers()[1]
# Another value than the default of every option, as written; lists are tried one after the other. An option that has
# none here fails its test: give it one.
OTHERS: dict[str, list[list[str]]] = {
    "influence": [["--influence"]],
    "latex": [["--latex", "{folder}/new.tex"]],
    "loss": [["--loss", "other"], ["--loss", "lss"]],
    "where": [["--where", "seed=0"], ["--where", "sed=0"], ["--where", "seed=7"]],
    "fresh": [["--fresh"]],
    "quiet": [["--quiet"]],
    "out": [["--out", "{folder}/new.json"], ["--out", "{folder}"]],
    "force": [["--force"]],
    "n": [["--n", "width"], ["--n", "param"]],
    "d": [["--d", "steps"], ["--d", "token"]],
    "c": [["--c", "flops"], ["--c", "flps"], ["--c", "cost"]],
    "column": [["--column", "R=width"], ["--column", "N"]],
    "law": [["--law", "tied", "--d", "tokens"], ["--law", "chinchila"]],
    "fix": [["--fix", "E=0.2"], ["--fix", "alfa=0.3"]],
    "estimator": [["--estimator", "squares"]],
    "residual": [["--residual", "raw"]],
    "delta": [["--delta", "0.1"], ["--delta", "0"], ["--estimator", "squares", "--delta", "0.1"]],
    "tau": [["--tau", "0.3"], ["--tau", "2"]],
    "nu": [["--nu", "9"]],
    "link": [["--link", "logit"]],
    "trunk": [["--trunk", "group"], ["--trunk", "trnk"]],
    "weight": [["--weight", "w"], ["--weight", "nosuch"]],
    "sd": [["--sd", "spread"], ["--sd", "nosuch"]],
    "replicates": [["--replicates", "20"], ["--replicates", "1"]],
    "seed": [["--seed", "5"], ["--seed", "-1"]],
    "laws": [["--laws", "power_law_N,power_law_C", "--c", "flops"], ["--laws", "tied,chinchila"]],
    "backtest": [["--backtest", kind] for kind in ("size", "records", "compute")],
    "method": [["--method", "akima"]],
    "budgets": [["--budgets", "1e12,1e13"], ["--budgets", "a"]],
    "tolerance": [["--tolerance", "0.001"], ["--tolerance", "-1"]],
    "noise_sd": [["--noise-sd", "0.01"], ["--method", "akima", "--noise-sd", "0.01"]],
    "figure": [["--figure", "{folder}/figures/new"]],
    "quantity": [["--quantity", "A"], ["--quantity", "alfa"], ["--quantity", "L(N=1e6)"]],
    "budget": [["--budget", "4e13"], ["--budget", "nan"]],
    "what": [["--what", "data"], ["--what", "sizes"], ["--what", "mix"]],
    "mix": [["--mix", "0.25"], ["--mix", "1.5"]],
    "tier": [["--tier", "T9"]],
    "curve": [["--curve", "{folder}/curve.csv"], ["--curve", "{folder}/curve.csv", "--target", "0.5"]],
    "target": [["--target", "0.4"]],
    "sizes": [["--sizes", "1e5,1e6"], ["--sizes", "1e5"]],
    "slope": [["--slope", "0.05"]],
    "trunk_sd": [["--trunk-sd", "0.03"]],
    "residual_sd": [["--residual-sd", "0.03"]],
    "pilot": [["--pilot", "{folder}/arms.csv"]],
    "pool_draws": [["--pool-draws", "2"]],
    "shared_reference": [["--shared-reference"]],
    "power": [["--power", "0.9"]],
    "alpha": [["--alpha", "0.2"]],
    "seeds_max": [["--seeds-max", "5"]],
}
ROWS = ["--n", "params", "--trunk", "trunk", "--replicates", "8"]
LAW = [*ROWS, "--law", "power_law_N"]
BASE = {
    "fit": ["fit", "{folder}/runs.csv", *LAW],
    "compare": ["compare", "{folder}/runs.csv", *ROWS, "--laws", "power_law_N"],
    "isoflop": ["isoflop", "{folder}/sweep.csv", "--n", "params", "--d", "tokens"],
    "design": ["design", "{folder}/runs.csv", "{folder}/more.csv", *LAW, "--quantity", "alpha", "--budget", "1e13"],
    "plot": ["plot", "{folder}/runs.csv", *LAW, "--figure", "{folder}/figure"],
    "contrasts": ["contrasts", "{folder}/arms.csv"],
    "power": ["power", "--sizes", "1e5,3e5,1e6", "--budgets", "1e4", "--slope", "-0.1", "--trunk-sd", "0.02"],
}
BASE["power"] += ["--residual-sd", "0.01", "--seeds-max", "4"]


def law(n: np.ndarray, d: np.ndarray) -> np.ndarray:
    return 0.3 + 40 / n**0.35 + 60 / d**0.4


def runs(noise: float = 0.01) -> pd.DataFrame:
    """Five sizes, two seeds, three budgets, with every column that an option may name."""
    rng = np.random.default_rng(0)
    rows = [(n, d, seed) for n in np.geomspace(1e4, 1e6, 5) for seed in (0, 1) for d in (1e5, 1e6, 1e7)]
    n, d, seed = (np.array(column) for column in zip(*rows))
    loss = law(n, d) * np.exp(rng.normal(0, noise, len(n)))
    frame = pd.DataFrame({"params": n, "tokens": d, "seed": seed.astype(int), "loss": loss})
    frame["trunk"], frame["group"] = frame["params"].round().astype(str) + frame["seed"].astype(str), "g"
    frame["width"], frame["steps"], frame["other"] = np.sqrt(n), d**0.9, loss**1.1
    frame["w"], frame["spread"] = np.where(seed == 0, 1.0, 0.2), np.where(seed == 0, 0.01, 0.03)
    return frame.assign(flops=6 * n * d * np.where(seed == 0, 1.0, 3.0))


def sweep() -> pd.DataFrame:
    """Three budgets of seven sizes, two seeds."""
    rng = np.random.default_rng(1)
    parts = []
    for c, best in ((1e11, 1e4), (1e12, 3e4), (1e13, 9e4)):
        for seed in (0, 1):
            n = best * np.geomspace(1 / 8, 8, 7)
            loss = (2 - 0.1 * np.log10(c) + 0.05 * np.log(n / best) ** 2) * np.exp(rng.normal(0, 0.002, 7))
            tokens = c * np.exp(rng.uniform(-0.02, 0.02, 7)) / (6 * n)
            parts.append(pd.DataFrame({"params": n, "tokens": tokens, "loss": loss, "seed": seed}))
    frame = pd.concat(parts, ignore_index=True)
    frame = frame.assign(trunk=frame.index // 2, group="g", width=frame["params"] ** 0.9, steps=frame["tokens"] * 1.1)
    return frame.assign(other=frame["loss"] ** 2, flops=6.5 * frame["params"] * frame["tokens"])


def arms() -> pd.DataFrame:
    """Three real fractions over four sizes and three seeds, two tiers."""
    rng = np.random.default_rng(2)
    rows = [
        (n, d, seed, r, tier)
        for n in np.geomspace(1e4, 1e6, 4)
        for d in (1e4, 1e5)
        for seed in (0, 1, 2)
        for r in (0.0, 0.25, 0.5, 1.0)
        for tier in ("T0",)
    ]
    frame = pd.DataFrame(rows, columns=["n_params", "records_seen", "seed", "real_fraction", "tier"])
    loss = law(frame["n_params"], frame["records_seen"]) * (1 - 0.1 * frame["real_fraction"])
    frame["loss"] = loss * np.exp(rng.normal(0, 0.01, len(frame)))
    names = frame["n_params"].round().astype(str) + "/" + frame["seed"].astype(str) + "/"
    frame["trunk_id"] = names + frame["real_fraction"].astype(str)
    frame["run_id"] = frame["trunk_id"] + "/" + frame["records_seen"].astype(str)
    return frame.assign(unique_real_patients=100, width=np.sqrt(frame["n_params"]), other=frame["loss"] ** 2)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """The tables that the commands are tried on."""
    at = tmp_path_factory.mktemp("options")
    runs().to_csv(at / "runs.csv", index=False)
    sweep().to_csv(at / "sweep.csv", index=False)
    arms().to_csv(at / "arms.csv", index=False)
    more = pd.DataFrame({"params": [1e6, 3e6, 1e5], "tokens": [1e6, 1e6, 1e7], "trunk": "x"})
    more.assign(width=1e3, steps=1e5, train_flops=[6e12, 2e13, 8e12], cost=[9e12, 1e12, 8e12]).to_csv(
        at / "more.csv", index=False
    )
    trunks = arms().drop_duplicates("trunk_id")
    curve = trunks.loc[trunks.index.repeat(4), ["trunk_id", "n_params", "real_fraction"]]
    seen = np.tile([1e3, 1e4, 1e5, 1e6], len(trunks))
    curve.assign(records_seen=seen, loss=law(curve["n_params"], seen)).to_csv(at / "curve.csv", index=False)
    return at


class Told:
    """What one run of the command line said and wrote."""

    def __init__(self, words: list[str], folder: Path, capsys: pytest.CaptureFixture) -> None:
        before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        self.status = main([word.format(folder=folder) for word in words])
        said = capsys.readouterr()
        self.error = said.err if self.status else ""
        after = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        changed = {path.name: data for path, data in after.items() if before.get(path) != data}
        for path in set(after) - set(before):
            path.unlink()
        for path, data in before.items():
            path.write_bytes(data)
        # Of stderr only whether there is anything: it tells the time that the command took.
        self.effect = (said.out.replace("-0.0000", "0.0000"), bool(said.err), changed)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_has_an_effect_or_is_refused(command, folder, capsys):
    base = Told(BASE[command], folder, capsys)
    assert base.status == 0 and Told(BASE[command], folder, capsys).effect == base.effect, base.error
    ignored = []
    for action in COMMANDS[command].listed:
        if not action.option_strings or isinstance(action, argparse._HelpAction):
            continue
        for words in OTHERS[action.dest]:
            told = Told([*BASE[command], *words], folder, capsys)
            if told.status:
                assert told.status == 2 and told.error.startswith("error: ") and told.error.count("\n") == 1
            elif action.dest != "force" and told.effect == base.effect:  # there is nothing to write over
                ignored.append(words)
    assert not ignored
