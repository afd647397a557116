"""Commands as a terminal starts them, whatever started the tests: no signal is ignored, but those that are named."""

import sys

#: In between, without a fork of this process, whose threads may hold locks.
_STARTER = """
import os, signal, sys
for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
    signal.signal(number, signal.SIG_IGN if str(int(number)) in sys.argv[1].split(",") else signal.SIG_DFL)
os.execv(sys.executable, [sys.executable, *sys.argv[2:]])
"""


def python(*arguments: str, ignored: tuple[int, ...] = ()) -> list[str]:
    """The command `python arguments`, begun with these signals ignored."""
    return [sys.executable, "-c", _STARTER, ",".join(str(int(number)) for number in ignored) or "none", *arguments]
