"""How often do 95 % intervals hold the truth? Simulated studies of trunks with several cool-downs each.

python -m benchmarks.fits.coverage --out results/benchmarks/coverage

Every kind of interval that `python -m scaling_fits` prints, at 4, 8 and 16 trunks of 6 rows and correlations 0, .5 and
.9 within a trunk. About half an hour on one core; `--quick` takes three minutes. Cells that `coverage.csv` holds are
kept unless `--again`.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator

import pandas as pd

from benchmarks.fits import coverage_page
from benchmarks.harness import machine
from benchmarks.harness.options import add_out
from benchmarks.harness.writing import write_csv, write_json
from scaling_fits.files import write_text

TRUNKS, CORRELATIONS = (4, 8, 16), (0.0, 0.5, 0.9)
REPLICATES = 200


def main() -> None:
    """Reads the options, pins the process, and simulates cell after cell."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_out(parser, "coverage")
    parser.add_argument("--studies", type=int, default=800, help="per cell (default: %(default)s)")
    parser.add_argument("--bootstraps", type=int, default=400, help="studies with a bootstrap (default: %(default)s)")
    parser.add_argument("--only", help="one kind: profiles, bootstraps, slopes, differences, isoflops")
    parser.add_argument("--again", action="store_true", help="simulate anew what the results hold")
    parser.add_argument("--quick", action="store_true", help="40 studies per cell")
    options = parser.parse_args()
    if options.quick:
        options.studies = options.bootstraps = 40
    machine.pin_to_one_core()
    from benchmarks.fits.coverage_studies import Cell  # NumPy and JAX size their thread pools as they load: only now

    path = options.out / "coverage.csv"
    done = pd.read_csv(path, keep_default_na=False) if path.is_file() and not options.again else pd.DataFrame()
    rows = done.to_dict("records")
    for trunks in TRUNKS:
        for correlation in CORRELATIONS:
            for kind, name, work in _work(Cell(trunks, correlation), options.studies, options.bootstraps):
                if options.only in (None, kind) and not _has(rows, kind, name, trunks, correlation):
                    found = [{"kind": kind, **tally.row()} for tally in work()]
                    rows += found
                    write_csv(pd.DataFrame(rows), path)
                    shown = ", ".join(f"{row['quantity']} {100 * row['coverage']:.1f}" for row in found)
                    print(f"{trunks} trunks, correlation {correlation:g}, {kind} {name}: {shown}", flush=True)
    write_json(machine.describe(), options.out / "machine.json")
    write_text(options.out / "README.md", coverage_page.page(pd.DataFrame(rows), machine.describe()))


def _work(cell: object, studies: int, bootstraps: int) -> Iterator[tuple[str, str, Callable]]:
    """Kinds of intervals, the estimator each was tried with, and the simulation of one cell."""
    from benchmarks.fits import coverage_studies as simulate
    from scaling_fits.estimation.estimators import HUBER_HOFFMANN, LeastSquares

    for estimator in (LeastSquares(), HUBER_HOFFMANN):
        name = type(estimator).__name__
        yield "profiles", name, lambda e=estimator: simulate.profiles(cell, e, studies, seed=1)
    yield "slopes", "", lambda: simulate.slopes(cell, studies, seed=2)
    yield "differences", "", lambda: simulate.differences(cell, studies, seed=3)
    yield "isoflops", "", lambda: simulate.isoflops(cell, studies, seed=4)
    for estimator in (LeastSquares(), HUBER_HOFFMANN):
        name = type(estimator).__name__
        yield "bootstraps", name, lambda e=estimator: simulate.bootstraps(cell, e, bootstraps, REPLICATES, seed=5)


def _has(rows: list[dict[str, object]], kind: str, name: str, trunks: int, correlation: float) -> bool:
    key = kind, name, trunks, correlation
    return any((row["kind"], row["estimator"], row["trunks"], row["correlation"]) == key for row in rows)


if __name__ == "__main__":
    main()
