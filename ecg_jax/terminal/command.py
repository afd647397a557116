"""What all command lines share: how one ends when told to, when its reader goes away, and when something is wrong.

Ctrl-C, SIGTERM, SIGHUP   what can be saved is saved, one line says that the same command goes on; exit status
                          128 + signal (130 after Ctrl-C)
a closed pipe, terminal   the command goes on and prints no more: work is worth more than a reader who has left
an error                  one line, exit status 2
"""

from __future__ import annotations

import contextlib
import errno
import functools
import io
import os
import select
import signal
import sys
import threading
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

#: What tells a command to stop.
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
#: What files, disks and machines give rise to; anything else is a fault of the program, and shows its traceback.
EXPECTED = (
    OSError,
    ValueError,
    RuntimeError,
    ImportError,
    MemoryError,
    EOFError,
    zipfile.BadZipFile,
    zlib.error,
)
#: Of an error's text, what is printed: a runtime tells of every buffer it holds.
_MOST_CHARACTERS = 2000

Main = Callable[[Sequence[str] | None], int | None]


class Entry(Protocol):
    """A command: it takes the words after its name, those of the command line unless given, and returns its status."""

    def __call__(self, arguments: Sequence[str] | None = None) -> int:
        """Runs the command."""
        ...


class StoppedError(Exception):
    """The work was told to stop by `signal`, and has saved what it has."""

    def __init__(self, number: int = signal.SIGTERM):
        super().__init__(number)
        self.signal = number


class ToldToStop(KeyboardInterrupt):
    """SIGTERM or SIGHUP, raised as Ctrl-C is, so that temporary files and worker processes go as well."""

    def __init__(self, number: int):
        super().__init__()
        self.signal = number


def command(main: Main) -> Entry:
    """Makes of `main(arguments)` an entry that keeps to the module's rules and returns the exit status."""

    @functools.wraps(main)
    def entry(arguments: Sequence[str] | None = None) -> int:
        with _surviving_output(), _interrupting():
            try:
                return main(arguments) or 0
            except StoppedError as stopped:
                print("stopped: all is saved, and the same command goes on", file=sys.stderr)
                return 128 + stopped.signal
            except KeyboardInterrupt as stopped:
                print("stopped; the same command goes on", file=sys.stderr)
                return 128 + getattr(stopped, "signal", signal.SIGINT)
            except Exception as error:
                if not _is_expected(error):
                    raise
                print(f"error: {one_line(error)}", file=sys.stderr)
                return 2

    return entry


def quiet_while_loading() -> None:
    """Ctrl-C while a command is being loaded, which takes seconds, is one line as well. For packages whose modules are
    commands, to be called before they load any; nothing is begun yet that could be lost."""
    if sys.argv[:1] != ["-m"]:  # what `python -m` leaves there until the module itself runs
        return
    before = sys.excepthook

    def hook(kind: type[BaseException], error: BaseException, where: TracebackType | None) -> None:
        if not issubclass(kind, KeyboardInterrupt):
            before(kind, error, where)
            return
        print("stopped; the same command goes on", file=sys.stderr, flush=True)
        os._exit(128 + signal.SIGINT)

    sys.excepthook = hook


def one_line(error: BaseException) -> str:
    """What an error says, on one line; its kind where it says nothing."""
    return " ".join(str(error).splitlines())[:_MOST_CHARACTERS].strip() or type(error).__name__


def _is_expected(error: Exception) -> bool:
    # Not imported: this module is loaded before all others, and not every install has it.
    safetensors = sys.modules.get("safetensors")
    return isinstance(error, EXPECTED if safetensors is None else (*EXPECTED, safetensors.SafetensorError))


@contextlib.contextmanager
def heeding(handler: Callable[[int, FrameType | None], None], numbers: Sequence[int] = SIGNALS) -> Iterator[None]:
    """Calls `handler` for these signals while the block lasts, where this thread may hear of them; one that the process
    was started to ignore, as by `nohup`, stays ignored."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    heeded = [number for number in numbers if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, handler) for number in heeded}
    try:
        yield
    finally:
        for number, former in before.items():
            signal.signal(number, former)


@contextlib.contextmanager
def _interrupting() -> Iterator[None]:
    def interrupt(number: int, _: FrameType | None) -> None:
        raise ToldToStop(number)

    with heeding(interrupt, (signal.SIGTERM, signal.SIGHUP)):
        yield


@contextlib.contextmanager
def _surviving_output() -> Iterator[None]:
    """Standard output and error that outlive their reader, and are written line by line, while the block lasts."""
    ours = {"stdout": sys.__stdout__, "stderr": sys.__stderr__}
    # Only where nobody else has put something in its place.
    before = {name: stream for name, stream in ours.items() if stream is not None and getattr(sys, name) is stream}
    for name, stream in before.items():
        stream.flush()
        raw = _Surviving(stream.fileno(), "w", closefd=False)
        text = io.TextIOWrapper(io.BufferedWriter(raw), stream.encoding, stream.errors, line_buffering=True)
        setattr(sys, name, text)
    try:
        yield
    finally:
        for name, stream in before.items():
            getattr(sys, name).flush()
            setattr(sys, name, stream)


def has_reader() -> bool:
    """Whether anybody still reads standard output. Of no use to work, which goes on; for who only shows."""
    raw = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
    if not isinstance(raw, _Surviving):
        return True  # somebody put something else in its place
    if not raw.outlived and hasattr(select, "poll"):
        look = select.poll()
        look.register(raw.fileno(), 0)  # tells of the end of a pipe alone
        raw.outlived = any(events & (select.POLLERR | select.POLLHUP) for _, events in look.poll(0))
    return not raw.outlived


class _Surviving(io.FileIO):
    """A file that turns into /dev/null when nobody reads it any more; it has `outlived` its reader then."""

    outlived = False

    def write(self, data: ReadableBuffer, /) -> int:
        try:
            return super().write(data)
        except OSError as error:
            if error.errno not in (errno.EPIPE, errno.EIO):  # a pipe without a reader, a terminal that was closed
                raise
            self.outlived = True
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, self.fileno())
            os.close(null)
            return memoryview(data).nbytes
