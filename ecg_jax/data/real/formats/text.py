"""Text of headers as older systems wrote it."""

from __future__ import annotations

import codecs


def decoded(raw: bytes) -> str:
    """Text of a header: UTF-8, with or without its mark, or else Latin-1, in which older systems write a "µ" and
    accents."""
    raw = raw.removeprefix(codecs.BOM_UTF8)
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw.decode("latin-1")
