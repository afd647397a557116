"""What files a published set consists of, from the publisher's own listing, and which of them hold how many records."""

from __future__ import annotations

import json
import re
import urllib.parse
from collections.abc import Iterable, Sequence
from typing import Any

from ecg_jax.data.real.fetch.publishers import Host, Publication
from ecg_jax.data.real.fetch.resumable import RemoteFile, read_small, safe_path

CHECKSUMS = "SHA256SUMS.txt"
_LINE = re.compile(r"([0-9a-fA-F]{64})\s+\*?(.+)")
_MD5 = re.compile(r"[0-9a-fA-F]{32}")
#: Endings of a file's name after which the rest names the record; a record is all files of one name.
_RECORD_ENDINGS = (".hea", ".dat", ".mat", ".atr")


def list_files(publication: Publication, *, timeout_s: float = 30.0) -> tuple[tuple[RemoteFile, ...], str]:
    """All files of a set in a fixed order, and the licence as the publisher states it.

    Raises TransferError when the listing cannot be read, and ValueError when it is of another shape than published or
    names a path outside the set.
    """
    match publication.host:
        case Host.PHYSIONET:
            return _physionet(publication, timeout_s), publication.licence
        case Host.ZENODO | Host.FIGSHARE:
            files, licences = [], []
            for address in publication.addresses:
                listed, licence = _json_record(publication, address, timeout_s)
                files += listed
                licences.append(licence)
            return tuple(files), "; ".join(dict.fromkeys(licences))
        case Host.GATED:
            raise ValueError(f"{publication.name} is {publication.gate}")


def choose(files: Sequence[RemoteFile], publication: Publication, records: int | None) -> tuple[RemoteFile, ...]:
    """The tables and, of the recordings, all or the files of the first `records` of the listing.

    Raises ValueError when `records` is below 1, or the set comes in archives, which hold many records each.
    """
    if records is None:
        return tuple(files)
    if records < 1:
        raise ValueError(f"--records {records}: at least 1")
    if publication.host is not Host.PHYSIONET:
        raise ValueError(
            f"{publication.name} is published as {len(files)} whole files, archives of many records each; --records "
            "cannot cut them: leave it out"
        )
    tables = [file for file in files if file.path in publication.tables]
    others = [file for file in files if file.path not in publication.tables]
    wanted = set(_first(record_name(file.path) for file in others if is_signal(file.path))[:records])
    return (*tables, *(file for file in others if record_name(file.path) in wanted))


def is_signal(path: str) -> bool:
    """Whether a file is a header or signal of a WFDB record."""
    return path.endswith(_RECORD_ENDINGS[:3])


def record_name(path: str) -> str:
    """The record that a file belongs to: its path without the ending."""
    folder, _, name = path.rpartition("/")
    return f"{folder}/{name.partition('.')[0]}" if folder else name.partition(".")[0]


def _first(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(names))


def _physionet(publication: Publication, timeout_s: float) -> tuple[RemoteFile, ...]:
    (address,) = publication.addresses
    url = f"{address}/{CHECKSUMS}"
    files = []
    for number, line in enumerate(read_small(url, timeout_s=timeout_s).decode("utf-8", "replace").splitlines(), 1):
        if not line.strip():
            continue
        found = _LINE.fullmatch(line.strip())
        if found is None:
            raise ValueError(f"{url}, line {number}: {line!r:.120} is not a checksum and a path")
        path = str(safe_path(found[2], f"{url}, line {number},"))
        if _belongs(path, publication):
            files.append(RemoteFile(path, f"{address}/{urllib.parse.quote(path)}", ("sha256", found[1].lower())))
    if not any(is_signal(file.path) for file in files):
        raise ValueError(f"{url}: lists no recording in {publication.folder or 'the set'}; the layout has changed")
    return tuple(sorted(files, key=lambda file: (not is_signal(file.path), file.path)))


def _belongs(path: str, publication: Publication) -> bool:
    if path in publication.tables:
        return True
    inside = not publication.folder or path.startswith(f"{publication.folder}/")
    return inside and not path.startswith(publication.skip or ("\0",))


def _json_record(publication: Publication, address: str, timeout_s: float) -> tuple[list[RemoteFile], str]:
    """Files and licence of a record of Zenodo, or an article of Figshare."""
    try:
        record = json.loads(read_small(address, timeout_s=timeout_s, limit=1 << 26))
        if publication.host is Host.ZENODO:
            files = [
                _remote(address, entry["key"], entry["links"]["self"], entry["checksum"].removeprefix("md5:"), entry)
                for entry in record["files"]
            ]
            return files, str(record["metadata"]["license"]["id"])
        files = [
            _remote(address, entry["name"], entry["download_url"], entry["computed_md5"], entry)
            for entry in record["files"]
        ]
        return files, str(record["license"]["name"])
    except (KeyError, TypeError, AttributeError, json.JSONDecodeError) as error:
        raise ValueError(
            f"{address}: the record is not of the known shape ({type(error).__name__}: {error}); fetch the files by "
            "hand from its page"
        ) from error


def _remote(address: str, path: str, url: str, md5: str, entry: dict[str, Any]) -> RemoteFile:
    secure = address.startswith("https://")
    if not url.startswith("https://" if secure else ("http://", "https://")):
        raise ValueError(f"{address}: file {path!r:.80} lies at {url!r:.120}, which is not on the web")
    if _MD5.fullmatch(md5) is None:
        raise ValueError(f"{address}: checksum of {path!r:.80} is {md5!r:.80}, not an MD5 sum")
    return RemoteFile(str(safe_path(path, address)), url, ("md5", md5.lower()), int(entry["size"]))
