"""Telling how far a stage of work is: a bar on a terminal, plain lines elsewhere, one at its start and one every ten
seconds, so that a log shows what a command is at and that it lives."""

from __future__ import annotations

import threading
import time
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

#: Seconds between plain lines.
QUIET_SECONDS = 10.0
#: Where commands tell of progress whose standard output is their result.
STDERR = Console(stderr=True, highlight=False)


class Stage:
    """A stage of work, told while it lasts; a context manager. Call it with `(done, total)` where these are known."""

    def __init__(self, what: str, console: Console, unit: str = ""):
        self._what, self._console, self._unit = what, console, unit
        self._far = ""
        self._leave = threading.Event()
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[far]}"),
            TimeElapsedColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task(what, total=None, far="")
        self._teller = threading.Thread(target=self._tell, daemon=True)

    def __enter__(self) -> Self:
        self._began = time.monotonic()
        if self._console.is_terminal:
            self._bar.start()
        else:
            self._console.print(f"{self._what} …", soft_wrap=True)
            self._teller.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._console.is_terminal:
            self._bar.stop()
        else:
            self._leave.set()
            self._teller.join()

    def __call__(self, done: int, total: int) -> None:
        """Hears how far the stage is."""
        self._far = f"{done:,} of {total:,}{f' {self._unit}' if self._unit else ''}"
        self._bar.update(self._task, completed=done, total=total, far=self._far)

    def at(self, far: str) -> None:
        """Hears how far the stage is, in words."""
        self._far = far
        self._bar.update(self._task, far=far)

    def _tell(self) -> None:
        while not self._leave.wait(QUIET_SECONDS):
            so_far = f"{self._far}, " if self._far else ""
            self._console.print(f"{self._what}: {so_far}{time.monotonic() - self._began:.0f} s", soft_wrap=True)
