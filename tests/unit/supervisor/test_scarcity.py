"""Want of memory at the end of a supervisor: a line in its log, and no traceback."""

from __future__ import annotations

import asyncio
import errno
from types import SimpleNamespace
from typing import Any, cast

import pytest

from engine.supervisor.beginning import say_scarcity
from vmm.connection import close_writer


def test_a_connection_that_cannot_be_read_to_its_end_is_dropped() -> None:
    dropped: list[str] = []

    async def fail() -> None:
        raise MemoryError

    writer = SimpleNamespace(
        close=lambda: None, wait_closed=fail, transport=SimpleNamespace(abort=lambda: dropped.append("dropped"))
    )
    asyncio.run(close_writer(cast("Any", writer), 1.0))
    assert dropped == ["dropped"]


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (MemoryError(), "Fatal read error: there is no memory left for it\n"),
        (
            OSError(errno.EMFILE, "Too many open files"),
            "Fatal read error: [Errno 24] Too many open",
        ),
        (ValueError("a mistake of ours"), ""),
        (None, ""),
    ],
)
def test_what_a_loop_lacks_is_told_in_a_line(
    error: Exception | None, said: str, capfd: pytest.CaptureFixture[str]
) -> None:
    others: list[Any] = []
    loop = SimpleNamespace(default_exception_handler=others.append)
    context = {"message": "Fatal read error", "exception": error}
    say_scarcity(cast("Any", loop), context)
    out, err = capfd.readouterr()
    assert out.startswith(said) and bool(out) is bool(said) and err == ""
    assert others == ([] if said else [context])
