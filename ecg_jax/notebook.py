"""How pools, encoders and runs look in a notebook."""

from __future__ import annotations

import html
from collections.abc import Mapping


def facts_as_html(heading: str, facts: Mapping[str, object]) -> str:
    """A heading over a table of names and values, all escaped."""
    rows = "".join(f"<tr><th>{html.escape(k)}</th><td>{html.escape(str(v))}</td></tr>" for k, v in facts.items())
    return f"<p>{html.escape(heading)}</p><table>{rows}</table>"
