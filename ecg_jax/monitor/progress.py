"""Progress of a study: a bar for the study and one for the run on a terminal, plain lines elsewhere.

Work is counted in training FLOPs, since sizes differ by orders of magnitude; the time left is `time_left`'s.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from ecg_jax.config import RunConfig
from ecg_jax.distributed.agreement import is_primary
from ecg_jax.scaling.cost import flops
from ecg_jax.scaling.flops import forward_flops_per_record, parameters, train_flops_per_record
from ecg_jax.scaling.time_left import TimeLeft

#: Seconds between plain lines when the output is not a terminal.
QUIET_SECONDS = 10.0


class StudyProgress:
    """Shows a study's progress; a context manager. Its `on_step` and `on_run` are hooks of `study.run_pack`."""

    def __init__(self, targets: Sequence[RunConfig], done: Sequence[RunConfig], evaluations_per_run: int = 0):
        self._console = Console(highlight=False, quiet=not is_primary())
        self._evaluations = evaluations_per_run
        self._total = flops(targets, evaluations_per_run)
        self._runs, self._finished = len(targets), len(done)
        finished = {run.run_id for run in done}
        left = [target for target in targets if target.run_id not in finished]
        self._skipped = self._total - flops(left, evaluations_per_run)
        self._done, self._time_left = self._skipped, TimeLeft(left, evaluations_per_run)
        self._tick: tuple[float, int] = (time.monotonic(), 0)
        self._rate = 0.0
        self._waiting = ""
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.percentage:>3.0f}%"),
            TextColumn("{task.fields[detail]}"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}"),
            console=self._console,
            disable=not self._console.is_terminal,
        )
        self._study = self._bars.add_task("study", total=self._total, detail=self._tally(), left="")
        self._bars.update(self._study, completed=self._done)
        self._run = self._bars.add_task("run", total=1, detail="", left="")
        self._line, self._leave = f"{self._tally()}: the first step compiles", threading.Event()
        self._teller = threading.Thread(target=self._tell, daemon=True)

    def __enter__(self) -> Self:
        self._bars.start()
        if not self._console.is_terminal:
            self._teller.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._leave.set()
        self._bars.stop()

    def say(self, line: str) -> None:
        """Prints a line above the bars."""
        self._bars.console.print(line, soft_wrap=True)

    def wait(self, line: str) -> None:
        """Says what is waited for, once."""
        if line != self._waiting:
            self._waiting = self._line = line
            self.say(line)

    def on_step(self, config: RunConfig, step: int, loss: float) -> None:
        """Hears of a finished step."""
        now, batch = time.monotonic(), config.batch_records
        self._done += batch * train_flops_per_record(config.model)
        since, records = self._tick
        self._tick = (since, records + batch)
        if now - since > 1:
            self._rate, self._tick = (records + batch) / (now - since), (now, 0)
        detail = f"loss {loss:.3f}  {self._rate:.0f} records/s"
        seen, total = (step + 1) * batch, config.budget_records
        self._time_left.hear(config, step, now)
        left = self._time_left.left()
        self._bars.update(self._study, completed=self._done, detail=self._tally(), left=left)
        self._bars.update(self._run, description=_label(config), total=total, completed=seen, detail=detail)
        self._line = f"{_label(config)}: {seen} of {total} records, {detail}, {left or 'time left: not known yet'}"

    def on_run(self, config: RunConfig, record: dict[str, Any]) -> None:
        """Hears of a finished run."""
        self._finished += 1
        work = self._evaluations * forward_flops_per_record(config.model)
        self._done += work
        self._time_left.done(config, work)
        loss = "diverged" if record["diverged"] else f"held-out loss {record['loss']:.4f}"
        label = f"{_label(config)}, {config.budget_records} records"
        self.say(f"{self._tally()}: {label}: {loss} ({record['seconds']:.0f} s)")

    def _tell(self) -> None:
        """Off a terminal: where the study stands, again and again, also while it compiles or evaluates."""
        while not self._leave.wait(QUIET_SECONDS):
            self.say(f"{min(1.0, self._done / self._total):4.0%} {self._line}")

    def _tally(self) -> str:
        return f"{self._finished}/{self._runs} runs"


def _label(config: RunConfig) -> str:
    size = parameters(config.model).blocks
    return f"{size:,} parameters, real fraction {config.data.real_fraction:g}, seed {config.seed}"
