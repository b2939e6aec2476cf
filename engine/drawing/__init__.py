"""Pictures of a sandbox: what it is built from, and what each `up` puts on top."""

from __future__ import annotations
