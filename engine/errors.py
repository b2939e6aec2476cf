"""The root error of this package."""

from __future__ import annotations

OUR_BUG = 3  # exit code


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

    @classmethod
    def of(cls, error: BaseException) -> EngineError:
        """Any failure in this shape: vmm's errors have the same attributes, and the system's have a text.

        Everything else is a bug of ours, with the exit code that says so.
        """
        if isinstance(error, EngineError):
            return error
        if (brief := getattr(error, "brief", None)) is not None:
            return cls(brief, getattr(error, "details", None), getattr(error, "hint", None))
        if isinstance(error, OSError):
            return cls(str(error))
        name = type(error).__name__
        return cls(str(error) or name, details=f"{name} in our own code", exit_code=OUR_BUG)


class MachineSilent(EngineError):
    """A machine was started, and nothing in it has answered."""
