"""Who is there, before the runtime starts: it ends a process from C++, with a stack trace, when another does not come.

The first process listens at the coordinator's address, the others tell it their number and how many they were told of;
all get the same answer: go, or what is wrong.
"""

from __future__ import annotations

import json
import platform
import socket
import time
from typing import TypedDict


class ProcessesError(RuntimeError):
    """The processes are not what was asked for, or do not agree."""


def roll_call(coordinator: str, processes: int, process: int, seconds: float) -> None:
    """Returns when all processes are there. Raises ProcessesError, on all that came, when not all have come within
    `seconds`, two have one number, or they were told of other numbers of processes; and where the coordinator cannot be
    reached."""
    host, _, port = coordinator.rpartition(":")
    said: _Said = {"process": process, "processes": processes, "host": platform.node()}
    until = time.monotonic() + seconds
    wrong = _listen(int(port), said, until, seconds) if process == 0 else _answer(host, int(port), said, until, seconds)
    if wrong:
        raise ProcessesError(wrong)


class _Said(TypedDict):
    """What a process says of itself: its number, of how many, and where it runs."""

    processes: int
    process: int
    host: str


def _listen(port: int, said: _Said, until: float, seconds: float) -> str:
    """Hears all others, and tells them what is wrong, "" for nothing."""
    heard, connections, wrong = {0: said}, [], ""
    with socket.create_server(("", port)) as listener:
        while len(heard) < said["processes"] and not wrong and time.monotonic() < until:
            listener.settimeout(max(0.01, until - time.monotonic()))
            try:
                connection, _ = listener.accept()
                connection.settimeout(5)
                other = json.loads(connection.makefile().readline())
            except (TimeoutError, json.JSONDecodeError):  # nobody, or somebody else
                continue
            connections.append(connection)
            wrong = _objection(heard, said, other)
            heard.setdefault(other["process"], other)
        missing = sorted(set(range(said["processes"])) - heard.keys())
        if missing and not wrong:
            names = ", ".join(map(str, missing))
            wrong = f"process {names} of {said['processes']} did not come within {seconds:g} s: was it started?"
        for connection in connections:
            with connection:
                connection.sendall(json.dumps(wrong).encode() + b"\n")
    return wrong


def _objection(heard: dict[int, _Said], said: _Said, other: _Said) -> str:
    if other["processes"] != said["processes"]:
        return (
            f"process {other['process']} on {other['host']} was told of {other['processes']} processes, process 0 on "
            f"{said['host']} of {said['processes']}"
        )
    if other["process"] in heard:
        hosts = f"{heard[other['process']]['host']} and {other['host']}"
        return f"two processes call themselves {other['process']}, on {hosts}: each needs a number of its own"
    return ""


def _answer(host: str, port: int, said: _Said, until: float, seconds: float) -> str:
    """Tells the first process of this one, and returns what it says is wrong."""
    last = ""
    while time.monotonic() < until:
        try:
            with socket.create_connection((host, port), timeout=5) as connection:
                connection.settimeout(seconds + 5)
                connection.sendall(json.dumps(said).encode() + b"\n")
                if line := connection.makefile().readline():
                    return json.loads(line)
        except OSError as error:
            last = str(error)
        time.sleep(0.2)
    return (
        f"the coordinator {host}:{port} was not reached within {seconds:g} s ({last}): is process 0 running there, and "
        "is its port open to this host?"
    )
