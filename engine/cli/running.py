"""Running a coroutine as a command's body, so that every way to be told to stop lets it clean up, and ends it."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

CLEANING_S = 60.0  # to clean up after a signal; a half-started machine takes a quarter of that
INSISTED_S = 3.0  # after a second one
SAME_S = 0.1  # `timeout` signals its command and then the command's group: one wish, told twice
_SHOW_CURSOR = b"\x1b[?25h"


def run(main: Coroutine[Any, Any, T]) -> T:
    """`asyncio.run`, where TERM and HUP cancel as ^C does. Raises SystemExit (128 + signal), or KeyboardInterrupt, when
    one of them came.

    What hangs all the same, such as a thread that waits for a disk, is left behind: after CLEANING_S, or INSISTED_S
    after a second signal, the process ends as it is. What it had started dies with it.
    """
    import asyncio

    received: list[int] = []
    end = _End()

    async def cancellable() -> T:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None

        def cancel(number: int) -> None:
            end.come(number)
            received.append(number)
            task.cancel()

        for number in (signal.SIGINT, signal.SIGTERM, getattr(signal, "SIGHUP", None)):
            # Under nohup HUP is ignored, and stays so. Windows' loops have no signal handlers.
            if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
                with contextlib.suppress(NotImplementedError):
                    loop.add_signal_handler(number, cancel, number)
        return await main

    try:
        return asyncio.run(cancellable())
    except BaseException:
        if received:  # whatever the cancellation was turned into on its way
            raise (KeyboardInterrupt if received[0] == signal.SIGINT else SystemExit(128 + received[0])) from None
        raise
    finally:
        end.withdraw()


class _End:
    """The end of this process that comes when it does not end by itself."""

    def __init__(self) -> None:
        self._first: float | None = None
        self._timer: Any = None

    def come(self, number: int) -> None:
        """A signal has come."""
        now = time.monotonic()
        if self._first is None:
            self._first = now
            self._set(CLEANING_S, number)
        elif now - self._first > SAME_S:
            self._set(INSISTED_S, number)

    def withdraw(self) -> None:
        if self._timer:
            self._timer.cancel()

    def _set(self, seconds: float, number: int) -> None:
        import threading

        self.withdraw()
        self._timer = threading.Timer(seconds, _leave, (number,))
        self._timer.daemon = True
        self._timer.start()


def _leave(number: int) -> None:
    with contextlib.suppress(OSError):
        os.write(2, (_SHOW_CURSOR if os.isatty(2) else b"") + b"sandbox: something hangs; left without cleaning up\n")
    os._exit(128 + number)
