"""The recipes of docs/network.md, as the page has them."""

from __future__ import annotations

import re
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs/network.md"


def recipes() -> dict[str, str]:
    """The YAML of each heading below `## Recipes`; each heading has exactly one."""
    (section,) = re.findall(r"^## Recipes\n(.*?)^## ", PAGE.read_text(), re.M | re.S)
    found = {}
    for part in re.split(r"^### ", section, flags=re.M)[1:]:
        heading, _, text = part.partition("\n")
        (found[heading],) = re.findall(r"^```yaml\n(.*?)^```", text, re.M | re.S)
    return found
