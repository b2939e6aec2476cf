"""Names that several rooms need."""

from __future__ import annotations

SECTIONS = ("services", "volumes", "networks", "configs")  # of the file that are Compose's, by its rules
