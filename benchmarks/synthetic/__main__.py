"""Speed of the synthetic source against its peers, in one run on one core.

python -m benchmarks.synthetic --out results/benchmarks/synthetic

About 8 minutes; `--quick` takes one. The process is pinned to one core before NumPy and JAX are loaded: every number
is per core. Where JAX's default backend is a GPU, rendering inside a training step is measured as well.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks.harness import machine
from benchmarks.harness.options import add_out


def main() -> None:
    """Reads the options, pins the process, and runs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_out(parser, "synthetic")
    parser.add_argument("--rounds", type=int, default=9, help="interleaved repeats (default %(default)s)")
    parser.add_argument("--cache", type=Path, default=Path("out/cache"), help="where PTB-XL is prepared once")
    parser.add_argument("--quick", action="store_true", help="a smoke run: T0 and T1d at 100 Hz, two short rounds")
    options = parser.parse_args()
    if options.rounds < 1:
        parser.error(f"--rounds is {options.rounds}: at least 1 is needed")
    core = machine.pin_to_one_core()
    from benchmarks.synthetic import speed  # NumPy and JAX size their thread pools as they load: only now

    speed.run(options.out, options.cache, core, rounds=2 if options.quick else options.rounds, quick=options.quick)


if __name__ == "__main__":
    main()
