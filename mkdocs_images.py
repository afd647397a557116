"""A hook of MkDocs: figures that pages show from `results/` are copied into the site."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

_FIGURE = re.compile(r"\]\(\.\./(results/[\w/]+\.png)\)")


def on_files(files: Files, config: Any) -> Files:
    """Adds every figure that a page shows."""
    shown = {name for page in files.documentation_pages() for name in _FIGURE.findall(page.content_string)}
    for name in sorted(shown):
        files.append(File.generated(config, name, abs_src_path=str(Path(config.config_file_path).parent / name)))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Leads a page to the copies: pages and `results/` lie side by side in the site."""
    return _FIGURE.sub(r"](\1)", markdown)
