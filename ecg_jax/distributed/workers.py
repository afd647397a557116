"""Worker processes that end with the process that started them, however that ends, and say nothing of it."""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import os
import signal
import threading


def follow_parent() -> None:
    """Called in a worker when it starts. Ctrl-C on a terminal reaches workers as well: their parent decides, and ends
    them; when it is killed they leave."""
    parent = multiprocessing.parent_process()
    if parent is None:  # no worker, but the process that started all
        return
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_leave_with, args=(parent,), daemon=True).start()


def end_workers() -> None:
    """Ends the workers of this process in the midst of what they do."""
    for worker in multiprocessing.active_children():
        worker.terminate()


def _leave_with(parent: multiprocessing.process.BaseProcess) -> None:
    multiprocessing.connection.wait([parent.sentinel])
    os._exit(1)
