"""`python -m scaling_fits`: the command line, and how it ends when it is stopped or nobody reads on."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

STOPPED, CLOSED = 130, 141  # exit statuses of shells for SIGINT and SIGPIPE


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; 0 when it did what was asked, 2 with one line on stderr when the input is at fault."""
    from scaling_fits.command_line import main as run  # here, so that Ctrl-C while JAX is loaded is caught below

    return run(arguments)


def _guarded() -> int:
    """`main`, with one line instead of a traceback for Ctrl-C, and no word for a pipe that was closed."""
    try:
        try:
            status = main()
        except SystemExit as end:  # of --help
            status = int(end.code or 0)
        sys.stdout.flush()
        return status
    except KeyboardInterrupt:
        print("\nstopped; nothing was written: the same command begins anew", file=sys.stderr, flush=True)
        status = STOPPED
    except BrokenPipeError:
        status = CLOSED
    # At once: Python would take down what XLA's threads still compute with, and they would crash the process.
    os._exit(status)


if __name__ == "__main__":
    sys.exit(_guarded())
