"""`python -m benchmarks.norms.definitions`: how many of version 3's patients with a morphology meet its definition."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from ecg_jax.data.synthetic.annotate.shares_met import shares_met
from ecg_jax.terminal.command import command


@command
def main(arguments: Sequence[str] | None = None) -> None:
    """Prints one line for each morphology."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--patients", type=int, default=100, help="with each morphology (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="which patients (default: %(default)s)")
    options = parser.parse_args(arguments)
    for shape, shares in shares_met(options.patients, options.seed).items():
        others = ", ".join(f"{of.name} {share:.2f}" for of, share in shares.items() if of != shape and share >= 0.05)
        print(f"{shape.name} {shares[shape]:.2f}; also {others or 'none'}")


if __name__ == "__main__":
    raise SystemExit(main())
