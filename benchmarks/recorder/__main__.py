"""Version 3's recorder and variability: what its stages cost beside version 2's in one run, and what they look like.

python -m benchmarks.recorder --out results/benchmarks/recorder

Two minutes on one core. Reads no recording.
"""

from __future__ import annotations

import argparse

from benchmarks.harness import machine
from benchmarks.harness.options import add_out


def main() -> None:
    """Reads the options, pins the process to one core, and only then loads NumPy and JAX."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_out(parser, "recorder")
    parser.add_argument("--rounds", type=int, default=9, help="rounds of timing (default: 9)")
    options = parser.parse_args()
    if options.rounds < 1:
        parser.error(f"--rounds is {options.rounds}: at least one is needed")
    machine.pin_to_one_core()
    from benchmarks.harness.writing import write_csv, write_figure, write_json
    from benchmarks.recorder import figures, speed

    options.out.mkdir(parents=True, exist_ok=True)
    before = machine.describe()
    table = speed.measure(options.rounds)
    write_csv(table, options.out / "speed.csv")
    write_json({"before": before, "after": machine.describe()}, options.out / "machine.json")
    write_figure(figures.spectra(), options.out / "spectra")
    write_figure(figures.strips(), options.out / "strips")
    write_figure(figures.variability(), options.out / "variability")
    print(table.to_string(index=False))


if __name__ == "__main__":
    main()
