"""One planted law per law: a design that can see its constants, and constants of a plausible size."""

from dataclasses import dataclass
from itertools import product

import numpy as np
import pandas as pd

from scaling_fits.estimation.problem import log_predictions
from scaling_fits.laws.data_mix import (
    COMMON_RATE,
    D_CPT,
    FLOOR_OF_MIX,
    RATE_OF_SIZE,
    SATURATING,
    additive_mixture,
    exponential_mixing,
    joint_mixture,
)
from scaling_fits.laws.law import Law
from scaling_fits.laws.size_and_data import (
    CHINCHILLA,
    COUPLED,
    FARSEER,
    KAPLAN,
    REPETITION,
    TIED,
    broken_power_law,
    power_law,
)


@dataclass(frozen=True)
class Planted:
    """A law, the design's values by letter, and the true constants as published.

    `noise` of ln L is what simulations of coverage add: small enough that the design sees the constants.
    """

    law: Law
    values: dict[str, np.ndarray]
    constants: dict[str, float]
    noise: float = 0.01

    def log_loss(self) -> np.ndarray:
        """ln L of every row without noise."""
        zero = {variable.dimension: 0.0 for variable in self.law.variables if variable.dimension} | {"L": 0.0}
        theta = self.law.working(np.array([[self.constants[name] for name in self.law.names]]), zero)
        return log_predictions(self.law, theta, self.law.prepare(self.values, zero))[0]

    def table(self, noise: float = 0.0, seed: int = 0) -> pd.DataFrame:
        """The table of runs, columns named by the letters, ln losses with normal noise."""
        log_loss = self.log_loss()
        noisy = np.exp(log_loss + np.random.default_rng(seed).normal(0, noise, len(log_loss)))
        return pd.DataFrame({**self.values, "loss": noisy})

    @property
    def columns(self) -> dict[str, str]:
        """Columns by letter."""
        return {letter: letter for letter in self.law.letters}


def _grid(**axes: np.ndarray) -> dict[str, np.ndarray]:
    return {name: np.array(column) for name, column in zip(axes, zip(*product(*axes.values())))}


_N, _D = np.geomspace(1e4, 1e7, 6), np.geomspace(1e3, 1e6, 7)
_ND = _grid(N=_N, D=_D)
_LAW = {"E": 0.3, "A": 30.0, "B": 25.0, "alpha": 0.4, "beta": 0.45}


def _mixed() -> dict[str, np.ndarray]:
    grid = _grid(
        N=np.geomspace(1e4, 1e7, 5), D=np.geomspace(1e3, 1e6, 6), r=[0.0, 0.1, 0.5, 0.9, 1.0], U=[3e2, 1e4, 1e7]
    )
    real = grid["r"] * grid["D"]
    keep = (grid["r"] > 0) | (grid["U"] == 3e2)
    unique = np.where(real > 0, grid["U"], 0.0)
    return {"N": grid["N"][keep], "R": real[keep], "S": (grid["D"] - real)[keep], "U": unique[keep]}


def _repeated() -> dict[str, np.ndarray]:
    grid = _grid(N=np.geomspace(1e5, 1e9, 8), epochs=[1.0, 2.0, 4.0, 10.0, 40.0, 100.0], U=np.geomspace(1e4, 1e7, 5))
    return {"N": grid["N"], "D": grid["epochs"] * grid["U"], "U": grid["U"]}


def _shares(domains: int, with_size: bool, count: int = 40) -> dict[str, np.ndarray]:
    mixes = np.random.default_rng(3).dirichlet(np.full(domains, 0.7), size=count)
    index = _grid(N=np.geomspace(1e4, 1e7, 4), D=np.geomspace(1e3, 1e6, 4), mix=np.arange(count))
    if not with_size:
        return {f"h_{i + 1}": mixes[:, i] for i in range(domains)}
    chosen = mixes[index["mix"].astype(int)]
    return {"N": index["N"], "D": index["D"]} | {f"h_{i + 1}": chosen[:, i] for i in range(domains)}


_MIXED = _LAW | {"G": 0.15, "kappa": 0.3, "R_D": 6.0}
LAWS = (
    Planted(power_law("N"), {"N": np.geomspace(1e3, 1e8, 24)}, {"E": 0.3, "A": 30.0, "alpha": 0.4}),
    Planted(power_law("D", with_floor=False), {"D": np.geomspace(1e3, 1e6, 20)}, {"A": 30.0, "alpha": 0.2}),
    Planted(KAPLAN, _ND, {"N_c": 1e6, "D_c": 3e4, "alpha_N": 0.25, "alpha_D": 0.4}),
    Planted(TIED, _ND, {"E": 0.3, "A": 30.0, "B": 15.0, "alpha": 0.4}),
    Planted(CHINCHILLA, _ND, _LAW),
    Planted(
        COUPLED,
        _grid(N=np.geomspace(1e3, 1e8, 9), D=np.geomspace(1e2, 1e7, 9)),
        {"E": 0.3, "A": 60.0, "B": 40.0, "a": 0.6, "b": 0.7, "g": 0.6},
    ),
    Planted(
        FARSEER,
        _grid(N=np.geomspace(1e3, 1e9, 14), D=np.geomspace(1e2, 1e8, 14)),
        {"G": 1.6, "s": -0.3, "q": 0.1, "H": 0.8, "B": 6.0, "b": -0.12, "A": -0.4, "a": 0.09, "F": -0.1},
    ),
    Planted(REPETITION, _repeated(), _LAW | {"R_D": 12.0, "R_N": 4.0}),
    Planted(
        broken_power_law("D"),
        {"D": np.geomspace(1e1, 1e9, 80)},
        {"E": 0.1, "B": 6.0, "c_0": 0.12, "c_1": 0.4, "d": 2e5, "f": 0.5},
    ),
    Planted(exponential_mixing(3), _shares(3, False), {"c": 1.5, "k_1": 0.5, "k_2": 1.5, "k_3": 4.0}),
    Planted(
        additive_mixture(2),
        _shares(2, True),
        _LAW | {"C_1": 3.0, "C_2": 6.0, "gamma_1": 0.5, "gamma_2": 0.9},
    ),
    Planted(
        joint_mixture(2),
        _shares(2, True, 12),
        {"E": 0.3, "alpha": 0.4, "beta": 0.45, "C_1": 3.0, "C_2": 6.0, "gamma_1": 0.5, "gamma_2": 0.9}
        | {"A_1": 30.0, "A_2": 60.0, "gamma_A": 0.9, "B_1": 20.0, "B_2": 45.0, "gamma_B": 1.1},
        noise=0.002,
    ),
    Planted(
        D_CPT,
        _grid(N=np.geomspace(1e4, 1e7, 5), D=np.geomspace(1e3, 1e6, 5), r=np.linspace(0.05, 1, 8)),
        _LAW | {"C": 0.2, "eta": 0.3, "epsilon": 0.1, "gamma": 0.6},
    ),
    Planted(COMMON_RATE, _mixed(), _MIXED),
    Planted(RATE_OF_SIZE, _mixed(), _MIXED | {"kappa": 0.05, "kappa_1": 0.15}),
    Planted(SATURATING, _mixed(), _MIXED | {"T": 3e4}),
    Planted(FLOOR_OF_MIX, _mixed(), _MIXED | {"phi": 2.0}),
)
