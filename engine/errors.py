"""The root error of this package."""

from __future__ import annotations


class EngineError(Exception):
    """Something that `sandbox` was asked to do failed, for a reason outside our own code.

    `brief` is one line, `details` are the last words of whatever failed, `hint` says what the user can do, `exit_code`
    is what the command line ends with (1 failed, 2 bad file, 3 our bug).
    """

    def __init__(self, brief: str, details: str | None = None, hint: str | None = None, exit_code: int = 1) -> None:
        super().__init__(brief)
        self.brief = brief
        self.details = details
        self.hint = hint
        self.exit_code = exit_code
