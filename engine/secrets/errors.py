"""The error of this package."""

from __future__ import annotations

from engine.errors import EngineError


class SecretError(EngineError):
    """A secret has no value, or cannot be kept. Its texts never hold the value."""
