from pathlib import Path

import numpy as np
from rich.console import Console

from benchmarks.training import growth


def test_a_study_of_made_up_runs_is_planned_followed_exported_and_merged(tmp_path: Path, mesh):
    bench = growth.Bench(Console(quiet=True))
    growth.bookkeeping(bench, 40, tmp_path)
    rows = {row["what"]: row for row in bench.rows}
    assert {"planning, the first time", "between two packs", "status", "export", "merge into an empty store"} <= set(
        rows
    )
    assert all(np.isfinite(row["cpu_s"]) and row["size"] == 40 for row in bench.rows)
    assert len((tmp_path / "tables" / "runs.csv").read_text().splitlines()) == 41
    assert len(list((tmp_path / "half").glob("growth/runs/*/record.json"))) == 40
