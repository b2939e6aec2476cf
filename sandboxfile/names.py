"""Names that several packages need."""

from __future__ import annotations

SECTIONS = ("services", "volumes", "networks", "configs")  # the sections of the file that have the format of Compose
