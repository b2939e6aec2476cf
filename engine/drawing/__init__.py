"""Pictures of what is built from what, and of the machine that comes out of it."""

from __future__ import annotations
