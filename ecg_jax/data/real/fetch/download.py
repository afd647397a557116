"""Fetches a published set of ECG from its publisher.

The licence is shown first. What was fetched before is checked and kept, so the same command goes on after a break; a
file has its name only when it is whole and its checksum is the publisher's.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import fcntl
import io
import os
import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from ecg_jax.data.real.fetch.archives import extract, is_archive
from ecg_jax.data.real.fetch.listing import choose, is_signal, list_files, record_name
from ecg_jax.data.real.fetch.publishers import PUBLICATIONS, Host, Publication
from ecg_jax.data.real.fetch.resumable import TIMEOUT_S, RemoteFile, fetch
from ecg_jax.terminal.command import command
from ecg_jax.terminal.stage import Stage

#: Files fetched at the same time: small ones mostly wait for the server.
CONNECTIONS = 4

Say = Callable[[str], None]


def download(
    publication: Publication,
    folder: Path,
    *,
    records: int | None = None,
    console: Console | None = None,
    timeout_s: float = TIMEOUT_S,
    attempts: int = 5,
) -> tuple[RemoteFile, ...]:
    """Fetches a set, or its first `records` recordings, into `folder` and returns the files of it.

    A table that names the recordings is cut to those that were fetched, so that a reader finds what it lists. Raises
    TransferError for a server that cannot be reached or damaged files, ValueError for a listing of another shape or an
    option that does not fit the set, and OSError for a full disk.
    """
    console = console or Console(highlight=False, quiet=True)

    def say(line: str) -> None:
        console.print(line, soft_wrap=True)

    if publication.host is Host.GATED:
        raise ValueError(f"{publication.name} ({publication.title}) is {publication.gate}")
    say(f"{publication.title}: {publication.size}, from {', '.join(publication.addresses)}")
    say(f"Licence: {publication.licence}. To cite: {publication.cite}")
    files, licence = list_files(publication, timeout_s=timeout_s)
    if licence != publication.licence:
        say(f"{publication.host} states the licence: {licence}")
    chosen = choose(files, publication, records)
    folder = folder.resolve()  # `.` has no name
    folder.mkdir(parents=True, exist_ok=True)
    with _alone(folder, say):
        todo = [file for file in chosen if not _extracted(folder, file)]
        _check_room(folder, todo)
        say(f"{len(chosen):,} of {len(files):,} files, into {folder}")
        _fetch_all(todo, folder, console, timeout_s, attempts)
        if publication.row_paths is not None:
            _cut_table(folder, *publication.row_paths, chosen, say)
        for file in todo:
            if is_archive(file.path):
                say(f"{file.path}: {extract(folder / file.path, folder):,} files taken out")
                _mark_extracted(folder, file)
    return chosen


@contextlib.contextmanager
def _alone(folder: Path, say: Say) -> Iterator[None]:
    """One download into a folder at a time: the processes of one study may all begin the same."""
    with folder.with_name(f".{folder.name}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"another download into {folder} is under way: waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _fetch_all(files: Sequence[RemoteFile], folder: Path, console: Console, timeout_s: float, attempts: int) -> None:
    """Fetches all files, a few at a time; the first that cannot be had ends it, and the others are not begun."""
    sizes = [file.size for file in files if file.size is not None]
    total = sum(sizes) if files and len(sizes) == len(files) else None
    bars = Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        DownloadColumn(),
        TransferSpeedColumn(),
        console=console,
        disable=not console.is_terminal,
    )
    lock, gained, done = threading.Lock(), 0, 0
    telling = contextlib.nullcontext() if console.is_terminal else Stage("fetching", console)
    with bars, telling as stage, ThreadPoolExecutor(CONNECTIONS) as pool:
        task = bars.add_task(f"0 of {len(files):,} files", total=total)

        def on_bytes(count: int) -> None:
            nonlocal gained
            with lock:
                gained += count
            bars.update(task, completed=gained)
            if stage is not None:
                stage.at(f"{done:,} of {len(files):,} files, {gained / 1e6:,.0f} MB")

        running = [
            pool.submit(fetch, file, folder / file.path, on_bytes=on_bytes, timeout_s=timeout_s, attempts=attempts)
            for file in files
        ]
        try:
            for done, future in enumerate(as_completed(running), 1):
                future.result()
                bars.update(task, description=f"{done:,} of {len(files):,} files")
                if stage is not None and done == len(files):
                    console.print(f"{done:,} of {len(files):,} files, {gained / 1e6:,.0f} MB")
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _cut_table(folder: Path, name: str, column: str, chosen: Sequence[RemoteFile], say: Say) -> None:
    """Leaves in the table `name` the rows whose recording was fetched; all of them after a whole download."""
    held = {record_name(file.path) for file in chosen if is_signal(file.path)}
    with (folder / name).open(newline="", encoding="utf-8") as table:
        reader = csv.DictReader(table)
        if reader.fieldnames is None or column not in reader.fieldnames:
            raise ValueError(f"{folder / name}: no column {column!r}, but {reader.fieldnames}; the layout has changed")
        rows = list(reader)
    kept = [row for row in rows if record_name(row[column] or "") in held]
    if len(kept) == len(rows):
        return
    text = io.StringIO()
    writer = csv.DictWriter(text, reader.fieldnames, lineterminator="\n")
    writer.writeheader()
    writer.writerows(kept)
    part = folder / f".{name}.cut"
    part.write_text(text.getvalue(), encoding="utf-8")
    os.replace(part, folder / name)
    say(
        f"{name}: the {len(kept):,} rows of {len(rows):,} whose recordings are here; a further download begins from all"
    )


def _check_room(folder: Path, files: Sequence[RemoteFile]) -> None:
    """Raises OSError when the disk has no room for what is still to come."""
    needed = sum(file.size or 0 for file in files if not (folder / file.path).is_file())
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise OSError(f"{needed / 1e9:.1f} GB are still to come, {free / 1e9:.1f} GB are free in {folder}: make room")


def _marker(folder: Path, file: RemoteFile) -> Path:
    return folder / f".{file.path.replace('/', '_')}.extracted"


def _extracted(folder: Path, file: RemoteFile) -> bool:
    """Whether an archive was fetched and taken apart before; it may be removed then."""
    marker = _marker(folder, file)
    return is_archive(file.path) and marker.is_file() and marker.read_text(encoding="utf-8") == str(file.digest)


def _mark_extracted(folder: Path, file: RemoteFile) -> None:
    marker = _marker(folder, file)
    part = marker.with_name(f"{marker.name}.part")
    part.write_text(str(file.digest), encoding="utf-8")
    os.replace(part, marker)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    lines = [f"  {item.name:17} {item.title}: {item.size}" for item in PUBLICATIONS.values()]
    p = argparse.ArgumentParser(
        prog="ecg-jax download",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="sets:\n" + "\n".join(lines) + "\n\nTested against a server of our own that breaks, lies and "
        "stalls; not yet against the publishers' servers.\n\n"
        "Example: ecg-jax download ptbxl --to data/ptbxl --records 500",
    )
    p.add_argument("name", metavar="NAME", choices=PUBLICATIONS, help="a set of the list below")
    p.add_argument("--to", type=Path, required=True, metavar="DIR", help="the folder that becomes the set")
    p.add_argument("--records", type=int, metavar="N", help="only the first N recordings of the publisher's listing")
    return p


@command
def main(arguments: Sequence[str] | None = None) -> None:
    """The command line's entry."""
    options = parser().parse_args(arguments)
    console = Console(highlight=False)
    download(PUBLICATIONS[options.name], options.to, records=options.records, console=console)
    console.print(f"{options.name} is in {options.to}", soft_wrap=True)


if __name__ == "__main__":
    raise SystemExit(main())
