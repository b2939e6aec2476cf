"""The gateway's root error: what happened, in brief; the details; what to do about it."""

from __future__ import annotations


class GatewayError(Exception):
    """Everything the gateway raises on purpose."""

    def __init__(self, brief: str, details: str | None = None, hint: str | None = None) -> None:
        super().__init__(brief)
        self.brief = brief
        self.details = details
        self.hint = hint

    def __str__(self) -> str:
        return "\n".join(part for part in (self.brief, self.details, self.hint) if part)
