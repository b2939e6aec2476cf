"""Running a coroutine as a command's body, so that every way to be told to stop lets it clean up."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


def run(main: Coroutine[Any, Any, T]) -> T:
    """`asyncio.run`, where TERM and HUP cancel as ^C does. Raises SystemExit (128 + signal) when one of them came."""
    import asyncio

    received: list[int] = []

    async def cancellable() -> T:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None

        def end(number: int) -> None:
            received.append(number)
            task.cancel()

        for number in (signal.SIGTERM, getattr(signal, "SIGHUP", None)):
            # Under nohup HUP is ignored, and stays so. Windows' loops have no signal handlers.
            if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
                with contextlib.suppress(NotImplementedError):
                    loop.add_signal_handler(number, end, number)
        return await main

    try:
        return asyncio.run(cancellable())
    except BaseException:
        if received:  # whatever the cancellation was turned into on its way
            raise SystemExit(128 + received[0]) from None
        raise
