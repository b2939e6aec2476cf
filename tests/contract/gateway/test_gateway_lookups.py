"""Names that are not answered hold up neither other names nor anything else in the process."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from gateway_world import in_loop, until

from engine.gateway.lookups import MOST, MOST_OF_A_DOMAIN, Lookups

DEADLINE_S = 20.0


class Resolver:
    """Answers `fine...` at once, `bad...` with an error, and the others when `answer` is set."""

    def __init__(self) -> None:
        self.answer = threading.Event()
        self.asked: list[str] = []

    def look_up(self, name: str, port: int, **options: Any) -> list[Any]:
        self.asked.append(name)
        if name.startswith("bad"):
            raise socket.gaierror("Name or service not known")
        if not name.startswith("fine"):
            self.answer.wait(DEADLINE_S)
        return [(socket.AF_INET, socket.SOCK_STREAM, 0, "", ("203.0.113.7", port))]


@contextmanager
def slow_resolver() -> Iterator[tuple[Resolver, Lookups]]:
    resolver = Resolver()
    try:
        yield resolver, Lookups(resolver.look_up)
    finally:
        resolver.answer.set()


def test_the_host_s_resolver_is_asked() -> None:
    async def scenario() -> None:
        assert {"127.0.0.1", "::1"} & set(await Lookups().resolve("localhost", 80))

    in_loop(scenario())


def test_slow_names_hold_up_neither_other_names_nor_other_work() -> None:
    async def scenario() -> None:
        with slow_resolver() as (resolver, lookups):
            slow = [asyncio.create_task(lookups.resolve(f"{n}.dead.example", 443)) for n in range(3 * MOST)]
            await until(lambda: len(resolver.asked) >= MOST_OF_A_DOMAIN)
            async with asyncio.timeout(DEADLINE_S):
                assert await lookups.resolve("fine.example.com", 443) == ["203.0.113.7"]
                assert await asyncio.to_thread(lambda: "done") == "done"
            assert len(resolver.asked) == MOST_OF_A_DOMAIN + 1
            resolver.answer.set()
            assert await asyncio.gather(*slow) == [["203.0.113.7"]] * 3 * MOST

    in_loop(scenario())


def test_one_name_is_asked_for_once_at_a_time_and_again_afterwards() -> None:
    async def scenario() -> None:
        with slow_resolver() as (resolver, lookups):
            for _ in range(2 * MOST_OF_A_DOMAIN):  # callers that have given up
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0.001):
                        await lookups.resolve("slow.example", 443)
            waiting = [asyncio.create_task(lookups.resolve("slow.example", 443)) for _ in range(50)]
            await asyncio.sleep(0)
            resolver.answer.set()
            assert await asyncio.gather(*waiting) == [["203.0.113.7"]] * 50
            assert resolver.asked == ["slow.example"]
            await lookups.resolve("slow.example", 443)
            assert resolver.asked == ["slow.example"] * 2

    in_loop(scenario())


def test_what_the_resolver_says_is_what_its_caller_hears(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        with slow_resolver() as (resolver, lookups):
            for _ in range(2 * MOST):  # no place is lost
                with pytest.raises(OSError, match="not known"):
                    await lookups.resolve("bad.example", 443)
            assert len(resolver.asked) == 2 * MOST

            def none_left(thread: threading.Thread) -> None:
                raise RuntimeError("can't start new thread")

            with monkeypatch.context() as patched:
                patched.setattr(threading.Thread, "start", none_left)
                for _ in range(2 * MOST):
                    with pytest.raises(OSError, match="new thread"):
                        await lookups.resolve("fine.example", 443)
            assert await lookups.resolve("fine.example", 443)

    in_loop(scenario())
