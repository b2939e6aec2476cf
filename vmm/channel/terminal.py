"""The terminal that this process was started on."""

from __future__ import annotations

import contextlib
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator


@contextlib.contextmanager
def raw_terminal(fd: int) -> Iterator[None]:
    """Every key goes to the guest as it is; the former settings come back with the end of the block."""
    import termios

    before = termios.tcgetattr(fd)
    make_raw(fd)
    try:
        yield
    finally:
        termios.tcsetattr(fd, termios.TCSANOW, before)


def make_raw(fd: int) -> None:
    """Let every key through as it is, from now on. Raises OSError."""
    import termios
    import tty

    try:
        tty.setraw(fd, termios.TCSANOW)
    except termios.error as error:
        raise OSError(*error.args) from None


def terminal_size() -> tuple[int, int]:
    """(rows, columns) of the terminal we are on; 24 by 80 without one."""
    for fd in (1, 0, 2):
        with contextlib.suppress(OSError):
            size = os.get_terminal_size(fd)
            if size.lines and size.columns:
                return size.lines, size.columns
    return 24, 80
