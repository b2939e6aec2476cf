"""Running a coroutine as the body of a command. Every signal to stop lets it clean up, and then ends it."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

from engine.scarcity import closed_after

if TYPE_CHECKING:
    import asyncio

T = TypeVar("T")

CLEANING_S = 60.0  # the time to clean up after a signal; a half-started machine takes a quarter of that
INSISTED_S = 3.0  # the time that is left after a second signal
SAME_S = 0.1  # `timeout` signals its command and then the command's group: within this time both count as one signal
_SHOW_CURSOR = b"\x1b[?25h"


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run `main` as `asyncio.run` does; TERM and HUP cancel it as ^C does.

    Raises SystemExit (128 + signal), or KeyboardInterrupt for ^C, when a signal has ended it. A cleanup that hangs,
    such as a thread that waits for a disk, is abandoned: the process ends CLEANING_S after the first signal, or
    INSISTED_S after a second one. The processes that it has started die with it.
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
            # A signal that is ignored stays ignored: nohup does so with HUP. Event loops of Windows have no handlers.
            if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
                with contextlib.suppress(NotImplementedError):
                    loop.add_signal_handler(number, cancel, number)
        return await main

    try:
        runner = asyncio.Runner()
        _make_loop(runner)
        with closed_after(runner):
            return runner.run(cancellable())
    except BaseException:
        main.close()  # it may not have begun
        if received:  # the cancellation may have become any other error on its way
            raise (KeyboardInterrupt if received[0] == signal.SIGINT else SystemExit(128 + received[0])) from None
        raise
    finally:
        end.withdraw()


def _make_loop(runner: asyncio.Runner) -> None:
    """Raises OSError where there are too few descriptors, without what Python says of a loop that is half made."""
    hook, sys.unraisablehook = sys.unraisablehook, lambda args: None
    try:
        try:
            runner.get_loop()
            return
        except OSError as error:
            number, text = error.errno, error.strerror
        raise OSError(number, text)  # the other one holds the half of a loop, which is gone now
    finally:
        sys.unraisablehook = hook


class _End:
    """Ends this process by force, some time after a signal, if it does not end by itself."""

    def __init__(self) -> None:
        self._first: float | None = None
        self._timer: Any = None

    def come(self, number: int) -> None:
        """Note that the signal `number` has come, and set the time of the end."""
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
