"""`python -m tests.long`: runs the marked long tests and writes results/test-long.json."""

import datetime
import json
import subprocess
import sys
from pathlib import Path

import pytest

RESULT = Path(__file__).parents[1] / "results" / "test-long.json"


class Outcomes:
    """Gathers outcome and duration of every test."""

    def __init__(self):
        self.tests = {}

    def pytest_runtest_logreport(self, report):
        if report.when == "call" or report.outcome != "passed":
            self.tests[report.nodeid] = {"outcome": report.outcome, "seconds": round(report.duration, 1)}


def main() -> int:
    outcomes = Outcomes()
    status = pytest.main(["-m", "long", *sys.argv[1:]], plugins=[outcomes])
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
    changed = subprocess.run(["git", "status", "--porcelain"], capture_output=True, text=True, check=True).stdout
    result = {
        "commit": commit + (" and uncommitted changes" if changed.strip() else ""),
        "date": datetime.date.today().isoformat(),
        "tests": dict(sorted(outcomes.tests.items())),
    }
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(result, indent=1) + "\n")
    print(f"wrote {RESULT.name}: {len(outcomes.tests)} tests")
    return int(status)


if __name__ == "__main__":
    raise SystemExit(main())
