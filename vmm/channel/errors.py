"""What a caller of the channel has to expect."""

from __future__ import annotations

from typing import Any

from vmm.errors import VmmError


class GuestError(VmmError):
    """The guest refused, failed or is gone."""

    def to_json(self) -> dict[str, Any]:
        """The form in which it crosses the wire, in a RESULT."""
        return {"error": {"brief": self.brief, "details": self.details or "", "hint": self.hint or ""}}

    @classmethod
    def from_json(cls, error: object) -> GuestError:
        if not isinstance(error, dict):
            return cls("the guest answered with something that is no error", repr(error)[:200])
        brief, details, hint = (str(error.get(key) or "") for key in ("brief", "details", "hint"))
        return cls(brief or "the guest failed without saying why", details or None, hint or None)
