"""What a caller of the channel has to expect."""

from __future__ import annotations

from vmm.errors import VmmError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

LONGEST = 2000  # characters of a brief or a hint, which are lines
LONGEST_DETAILS = 1 << 16


class GuestError(VmmError):
    """The guest refused, failed or is gone."""

    def to_json(self) -> dict[str, Any]:
        """The form in which it crosses the wire, in a RESULT."""
        return {
            "error": dict(zip(("brief", "details", "hint"), _clip(self.brief, self.details, self.hint), strict=True))
        }

    @classmethod
    def from_json(cls, error: object) -> GuestError:
        if not isinstance(error, dict):
            return cls("the guest answered with something that is no error", f"a {type(error).__name__}")
        brief, details, hint = _clip(*(_text(error.get(key)) for key in ("brief", "details", "hint")))
        return cls(brief or "the guest failed without saying why", details or None, hint or None)


class GuestSilent(GuestError):
    """The guest does not answer in time, and may do so for ever."""


def restarted(*, followed: bool = False) -> GuestError:
    """What becomes of all that was asked of a guestd that is another one now. `followed`: that one is greeted."""
    hint = "try again: the sandbox goes on in a moment" if followed else None
    return GuestError("guestd restarted in the guest", hint=hint)


def _text(value: object) -> str:
    """Of lists and objects nothing: they may be nested deeper than Python can print."""
    return str(value) if value and isinstance(value, str | int | float) else ""


def _clip(brief: str, details: str | None, hint: str | None) -> tuple[str, str, str]:
    """Of the details the end stays: there stands why."""
    return brief[:LONGEST], (details or "")[-LONGEST_DETAILS:], (hint or "")[:LONGEST]
