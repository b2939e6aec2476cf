"""Names to addresses by the host's own resolver, whose answers may take long, and cannot be given up once asked for.

Each question holds a thread for as long as the resolver takes, whoever still waits. So they have threads of their own,
not those that the rest of the process works with; one name is asked for once at a time; and the names of one domain
have a part of the threads only: a guest that asks for many dead names of it holds up no other domain.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable
from contextlib import ExitStack, suppress
from typing import Any

MOST = 64  # questions at once; a thread that waits for an answer costs some tens of kilobytes
MOST_OF_A_DOMAIN = 12

_Found = list[str]


class Lookups:
    """Asks `look_up` (`socket.getaddrinfo`) in daemon threads: the process does not wait for them at its end."""

    def __init__(self, look_up: Callable[..., list[Any]] | None = None) -> None:
        self._look_up = look_up or socket.getaddrinfo
        self._open: dict[tuple[str, int], asyncio.Future[_Found]] = {}
        self._places = asyncio.Semaphore(MOST)
        self._of_domain: dict[str, asyncio.Semaphore] = {}  # as many as there are rules: other names are not asked for

    async def resolve(self, name: str, port: int) -> _Found:
        """A and AAAA, in the order in which the resolver recommends them. Raises OSError and UnicodeError.

        Waits for as long as the resolver takes, and before that for a thread: the deadline is the caller's.
        """
        if (found := self._open.get((name, port))) is None:
            found = await self._begin(name, port)
        # Others may wait for the same one, and its thread cannot be stopped.
        return await asyncio.shield(found)

    async def _begin(self, name: str, port: int) -> asyncio.Future[_Found]:
        """Have it asked for, when there is a thread for it."""
        domain = ".".join(name.rsplit(".", 2)[-2:])
        with ExitStack() as held:
            for places in (self._of_domain.setdefault(domain, asyncio.Semaphore(MOST_OF_A_DOMAIN)), self._places):
                await places.acquire()
                held.callback(places.release)
            if (found := self._open.get((name, port))) is not None:  # somebody was before us
                return found
            found = self._open[name, port] = asyncio.get_running_loop().create_future()
            held.callback(self._open.pop, (name, port))
            thread = threading.Thread(target=self._ask, args=(found, name, port), name="lookup", daemon=True)
            try:
                thread.start()
            except RuntimeError as error:  # no thread to be had
                raise OSError(str(error)) from None
            until_answered = held.pop_all()
        found.add_done_callback(lambda _: until_answered.close())
        return found

    def _ask(self, found: asyncio.Future[_Found], name: str, port: int) -> None:
        """In a thread of its own."""
        error: Exception | None = None
        addresses: _Found = []
        try:
            answer = self._look_up(name, port, type=socket.SOCK_STREAM)
            addresses = list(dict.fromkeys(str(item[4][0]) for item in answer))
        except Exception as caught:  # whatever it is, somebody waits for it
            error = caught
        with suppress(RuntimeError):  # the loop has ended meanwhile
            found.get_loop().call_soon_threadsafe(_answer, found, addresses, error)


def _answer(found: asyncio.Future[_Found], addresses: _Found, error: Exception | None) -> None:
    if found.done():
        return
    if error is None:
        found.set_result(addresses)
    else:
        found.set_exception(error)
        found.exception()  # perhaps nobody waits any more, which is no mistake
