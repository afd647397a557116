"""Speed of law fitting against its peers: the same data, estimator and starts, in one run.

SCALING_DATA_DIR=/path/to/fits python -m benchmarks.fits --out results/benchmarks/fits

About 10 minutes; `--quick` takes two. Peers and we run on one core, pinned before NumPy and JAX load; the bootstrap is
timed again on every core in a process of its own.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

from benchmarks.harness import machine
from benchmarks.harness.options import add_out

BOOTSTRAPS = 4000


def main() -> None:
    """Reads the options, pins the process, and runs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_out(parser, "fits")
    parser.add_argument("--data", type=Path, default=os.environ.get("SCALING_DATA_DIR"), help="public scaling data")
    parser.add_argument("--mixture", type=int, default=1000, help="bootstraps of the large mixture law (%(default)s)")
    parser.add_argument("--quick", action="store_true", help="few starts, few forms")
    parser.add_argument("--bootstrap", action="store_true", help="only the bootstrap, on every core; prints seconds")
    options = parser.parse_args()
    if options.data is None or not Path(options.data).is_dir():
        parser.error(f"--data {options.data} is not a folder; give it, or set SCALING_DATA_DIR")
    if options.bootstrap:
        from benchmarks.fits.fit_contenders import bootstrap_seconds, chinchilla_data

        print(" ".join(f"{s:.3f}" for s in bootstrap_seconds(chinchilla_data(Path(options.data)), BOOTSTRAPS)))
        return
    command = [sys.executable, "-m", "benchmarks.fits", "--bootstrap", "--data", str(options.data)]
    first_s, again_s = map(float, subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())
    machine.pin_to_one_core()
    from benchmarks.fits import fit_speed  # NumPy and JAX size their thread pools as they load: only now

    every_core = {"cores": os.cpu_count(), "first_s": first_s, "again_s": again_s}
    fit_speed.run(Path(options.data), options.out, every_core, BOOTSTRAPS, options.mixture, quick=options.quick)


if __name__ == "__main__":
    main()
