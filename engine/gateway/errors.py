"""The gateway's root error."""

from __future__ import annotations

from engine.errors import EngineError


class GatewayError(EngineError):
    """Everything the gateway raises on purpose."""
