"""The table of confinement in docs/security.md: `python -m engine.cli.security_page docs/security.md` writes it."""

from __future__ import annotations

import sys
from pathlib import Path

from engine.lifecycle.confinement import table

BEGIN = "<!-- generated: python -m engine.cli.security_page docs/security.md -->\n"
END = "<!-- end of what is generated -->\n"


def with_table(page: str) -> str:
    """The page with the table as it is now. Raises ValueError when it has no place for it."""
    head, begin, rest = page.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not (begin and end):
        raise ValueError("the page has no place for the table")
    return f"{head}{BEGIN}\n{table()}\n{END}{tail}"


if __name__ == "__main__":
    path = Path(sys.argv[1])
    path.write_text(with_table(path.read_text()))
