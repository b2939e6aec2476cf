"""What of the project is copied into a guest: plain values, for processes that know nothing of Sandboxfiles."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Piece:
    """A file or directory of the project and its place in the guest.

    `path` is relative to the project ("." is all of it), `target` an absolute path of the guest. `key` is that of the
    content which `up` found; what is copied must have it, too.

    Of a directory, the first of the `ignores` that exists (paths of the project) says what is left out, else
    `leave_out` does; names in `keep` never are. With a `pattern`, only what matches it is taken.
    """

    path: str
    target: str
    key: str = ""
    ignores: tuple[str, ...] = ()
    leave_out: tuple[str, ...] = ()
    keep: tuple[str, ...] = ()
    pattern: str = ""
