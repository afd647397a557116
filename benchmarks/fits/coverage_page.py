"""The page of the coverage results: every interval, at every number of trunks and correlation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

HEAD = """# Do 95 % intervals hold the truth in 95 % of studies?

`python -m benchmarks.fits.coverage --out results/benchmarks/coverage`; on {processor}, one core, Python {python}.
Simulated studies of 4, 8 and 16 trunks with six rows each, correlated by 0, .5 or .9 within a trunk (normal noise of
ln L, sd .0104 in all: trunks .01 and rows .003 at .9). Chinchilla's law is E .30, A 12, alpha .35, B 25, beta .45; up
to eight sizes from 1e5 to 1e8, then several seeds of each; 1e4 to 3e5 records. Coverage in per cent, its Monte-Carlo
standard error in brackets.

* **profile**, **bootstrap**: `fit` (text, JSON, `--latex`), by least squares and by Huber(1e-3); the bootstrap's draws
  also make the bands and predictions of `plot` ("L inside": at the largest size and records, "L beyond": at 1e9 and
  1e6) and the best allocation ("exponent of N*", "ln N*" at 1e16 FLOPs). {replicates} draws per study.
* **slope of a contrast**: `contrasts`, cluster-robust (on which the verdict rests) and the mixed model beside it.
* **mean difference**: `summarise_differences`, six pool draws beside each reference run.
* **isoflop**: parabolas at six budgets, every trunk one size. A minimum that its runs do not bracket, or whose
  curvature cannot be told from 0, is refused and said to be (`printed` in `coverage.csv`); coverage is of the printed.
  The error of N* takes a study's six budgets as independent, which they are not: it is too small.

A dash: nothing is printed, and the output says why. Fewer than 8 trunks support no bootstrap (three constants of the
law are told by the spread between trunks alone), fewer than 4 no interval at all.
"""


def page(rows: pd.DataFrame, machine: Mapping[str, Any], replicates: int = 200) -> str:
    """Markdown: one line per interval and quantity, one column per number of trunks and correlation."""
    columns = sorted({(int(row.trunks), float(row.correlation)) for row in rows.itertuples()})
    titles = " | ".join(f"{trunks}, {correlation:g}" for trunks, correlation in columns)
    lines = [f"| interval | of | estimator | {titles} |", "|" + "---|" * (3 + len(columns))]
    for key, part in rows.groupby(["interval", "quantity", "estimator"], sort=False):
        cells = {(int(row.trunks), float(row.correlation)): _cell(row) for row in part.itertuples()}
        lines.append(f"| {' | '.join(key)} | {' | '.join(cells.get(column, '') for column in columns)} |")
    known = rows[rows["printed"].astype(int) > 0]
    coverage = pd.to_numeric(known["coverage"])
    outside = int(((coverage < 0.92) | (coverage > 0.98)).sum())
    found = (
        f"{len(known)} cells: {100 * coverage.min():.1f} to {100 * coverage.max():.1f} %, {outside} outside 92 to 98 %."
    )
    head = HEAD.format(processor=machine["processor"], python=machine["python"], replicates=replicates)
    return "\n".join([head, found, "", "Columns: trunks, correlation.", "", *lines]) + "\n"


def _cell(row: Any) -> str:
    if int(row.printed) == 0:
        return "–"
    return f"{100 * float(row.coverage):.1f} ({100 * float(row.error):.1f})"
