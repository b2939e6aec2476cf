"""How an operation fails, as the host hears it."""

from __future__ import annotations

from typing import Any

Json = dict[str, Any]


class Failure(Exception):
    """An operation that did not work; goes to the host as brief, details, hint."""

    def __init__(self, brief: str, details: str = "", hint: str = "") -> None:
        super().__init__(brief)
        self.brief, self.details, self.hint = brief, details, hint


def error_of(error: BaseException, op: str = "") -> Json:
    if isinstance(error, Failure):
        return {"error": {"brief": error.brief, "details": error.details, "hint": error.hint}}
    brief = f"{op or 'request'} failed in the guest: {error}"
    return {"error": {"brief": brief, "details": type(error).__name__, "hint": ""}}
