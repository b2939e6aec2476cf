"""The root error of this package."""

from __future__ import annotations


class VmmError(Exception):
    """Something about a machine or one of its processes failed.

    `brief` is one line, `details` are the last words of whatever failed, `hint` says what the user can do.
    """

    def __init__(self, brief: str, details: str | None = None, hint: str | None = None) -> None:
        super().__init__(brief)
        self.brief = brief
        self.details = details
        self.hint = hint
