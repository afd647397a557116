"""The command `scaling-fits`, also as `python -m scaling_fits`, and how it ends when it is stopped or nobody reads."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from typing import NoReturn

STOPPED, CLOSED = 130, 141  # exit statuses of shells for SIGINT and SIGPIPE
#: Seconds that a command has to end by itself once Ctrl-C was pressed.
GRACE_SECONDS = 1.0
_NO_SIGNAL = 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; 0 when it did what was asked, 2 with one line on stderr when the input is at fault."""
    from scaling_fits.commands import command_line  # here, so that Ctrl-C while JAX is loaded is caught below

    return command_line.main(arguments)


def run() -> int:
    """`main`, with one line instead of a traceback for Ctrl-C, and no word for a pipe that was closed."""
    with _heeding_ctrl_c():
        try:
            try:
                status = main()
            except SystemExit as end:  # of --help
                status = int(end.code or 0)
            sys.stdout.flush()
            return status
        except KeyboardInterrupt:
            _end_stopped()
        except BrokenPipeError:
            os._exit(CLOSED)


def _end_stopped() -> NoReturn:
    print("\nstopped; nothing was written: the same command begins anew", file=sys.stderr, flush=True)
    # At once: Python would take down what XLA's threads still compute with, and they would crash the process.
    os._exit(STOPPED)


@contextlib.contextmanager
def _heeding_ctrl_c() -> Iterator[None]:
    """While it lasts, ends the process soon after Ctrl-C even where no KeyboardInterrupt gets through: XLA may compute
    for minutes before Python runs again, and one that is raised within a callback is dropped."""
    heard, told = os.pipe()
    os.set_blocking(told, False)
    before, unraisable = signal.set_wakeup_fd(told, warn_on_full_buffer=False), sys.unraisablehook
    # Python would write many lines of the one that is dropped.
    sys.unraisablehook = lambda error: None if error.exc_type is KeyboardInterrupt else unraisable(error)

    def wait() -> None:
        number = None
        while number not in (_NO_SIGNAL, signal.SIGINT):
            number = os.read(heard, 1)[0]
        if number == signal.SIGINT:
            time.sleep(GRACE_SECONDS)
            _end_stopped()

    watcher = threading.Thread(target=wait, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        sys.unraisablehook = unraisable
        os.write(told, bytes([_NO_SIGNAL]))
        watcher.join(timeout=2 * GRACE_SECONDS)
        os.close(heard)
        os.close(told)


if __name__ == "__main__":
    sys.exit(run())
