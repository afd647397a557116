"""Starts a study as several processes on this machine, and says in one line why it ended.

    python -m experiments.launch.local --processes 2 -- -m experiments.mixed_vs_pure --data-files out/data

When one process is killed the runtime ends the others from C++, within its heartbeat, where no Python can explain it:
this does. Told to stop, by Ctrl-C, SIGTERM or SIGHUP, it tells all of them once and waits until they have saved; told
again, it ends them. Exit status: that of the first process to fail, 128 + the signal for one that was killed.
"""

from __future__ import annotations

import argparse
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from types import FrameType

from ecg_jax.terminal.command import SIGNALS, command, heeding

LOOK_SECONDS = 0.2


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def start(command: Sequence[str], processes: int) -> list[subprocess.Popen]:
    """`python command`, so many times, each told its number and where the first one is."""
    coordinator = f"127.0.0.1:{free_port()}"
    started = []
    for process in range(processes):
        told = {"ECG_COORDINATOR": coordinator, "ECG_PROCESSES": str(processes), "ECG_PROCESS": str(process)}
        started.append(
            subprocess.Popen(
                [sys.executable, *command],
                env=os.environ | told,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                process_group=0,  # Ctrl-C on a terminal reaches a whole group: they hear of it from here, once
            )
        )
    return started


def _print(number: int, process: subprocess.Popen) -> None:
    for line in process.stdout:
        print(f"[{number}] {line}", end="", flush=True)


def wait(started: Sequence[subprocess.Popen], told: Sequence[int] = ()) -> tuple[int, str]:
    """Waits for all; when one fails, stops the others. Returns the exit status and why it is not 0. When `told` is not
    empty any more they were told to stop by that signal, and all are waited for."""
    while True:
        if told:
            for process in started:
                process.wait()
            return 128 + told[0], ""
        codes = [process.poll() for process in started]
        failed = [number for number, code in enumerate(codes) if code]
        if failed:
            number, code = failed[0], codes[failed[0]]
            why = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with status {code}"
            _stop([process for process in started if process.poll() is None])
            return (128 - code if code < 0 else code), (
                f"process {number} of {len(started)} {why}; the others were stopped. What is saved stays: the same "
                "command goes on"
            )
        if all(code == 0 for code in codes):
            return 0, ""
        time.sleep(LOOK_SECONDS)


def _stop(processes: Sequence[subprocess.Popen]) -> None:
    """They wait for one that is gone: asked first, then killed."""
    for process in processes:
        process.terminate()
    until = time.monotonic() + 5
    for process in processes:
        try:
            process.wait(timeout=max(0.1, until - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@command
def main(arguments: Sequence[str] | None = None) -> int:
    """The command line's entry; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments.launch.local",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--processes", type=int, default=2, metavar="N", help="how many (%(default)s)")
    parser.add_argument("command", nargs="+", help="what Python is to run, after --")
    options = parser.parse_args(arguments)
    if options.processes < 1:
        parser.error(f"--processes {options.processes}: at least one is needed")
    started, told = start(options.command, options.processes), []

    def hand_on(number: int, _: FrameType | None) -> None:
        for process in started:
            process.send_signal(signal.SIGKILL if told else number)
        told.append(number)

    with heeding(hand_on, SIGNALS):
        printers = [threading.Thread(target=_print, args=pair, daemon=True) for pair in enumerate(started)]
        for printer in printers:
            printer.start()
        status, why = wait(started, told)
    for printer in printers:
        printer.join(timeout=5)
    if why:
        print(f"error: {why}", file=sys.stderr)
    elif told:
        print("stopped; the same command goes on", file=sys.stderr)
    return status


if __name__ == "__main__":
    raise SystemExit(main())
