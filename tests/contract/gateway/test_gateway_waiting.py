"""Connections to unknown names are held while somebody is asked, and nothing else is."""

from __future__ import annotations

import asyncio
import json

from gateway_world import client_hello, echo, in_loop, until, world
from inside_world import guest_authority

from engine.gateway.rules import Rule
from engine.gateway.waiting import MOST_HELD, MOST_NAMES, Waiting

ACCESS_DENIED = bytes([21, 3, 3, 0, 2, 2, 49])
NEW = Rule("new.example.com", origin="sandbox allow new.example.com")


def plain(host: str) -> bytes:
    return f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()


async def answered(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    first = await reader.read(65536)
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n" if first[:3] == b"GET" else first)
    await reader.read(-1)


def test_all_that_wait_for_a_name_are_one_question_and_nobody_else_waits() -> None:
    async def scenario() -> None:
        hello = client_hello("new.example.com")
        async with world(Rule("known.example.com"), handler=echo) as w:
            with w.gateway.waiting.watch() as events:
                async with w.guest(443) as (first, one), w.guest(443) as (second, two):
                    one.write(hello)
                    two.write(hello)
                    await until(lambda: w.gateway.waiting.held == 2)
                    question = (await events.get()).question
                    assert (question.host, question.port) == ("new.example.com", 443) and events.empty()
                    known = client_hello("known.example.com")
                    assert await w.ask(443, known, end=True) == known, "others are not disturbed"
                    assert w.resolved == ["known.example.com"], "nothing is looked up before the answer"
                    w.gateway.set_temporary([NEW])
                    assert await first.readexactly(len(hello)) == await second.readexactly(len(hello)) == hello
                    assert (await events.get()).why == ""
            lines = await w.quiet()
        assert [line["verdict"] for line in lines] == ["allowed"] * 3

    in_loop(scenario())


def test_plain_requests_wait_too_and_never_is_a_rule() -> None:
    async def scenario() -> None:
        async with world(handler=answered) as w:
            with w.gateway.waiting.watch():
                async with w.guest(80) as (reader, writer):
                    writer.write(plain("new.example.com"))
                    await until(lambda: w.gateway.waiting.held == 1)
                    w.gateway.set_temporary([NEW])
                    assert (await reader.readuntil(b"\r\n")).startswith(b"HTTP/1.1 200 ")
                    writer.write(plain("bad.example.com"))
                    await until(lambda: w.gateway.waiting.held == 1)
                    w.gateway.set_temporary([NEW, Rule("bad.example.com", deny=True, origin="sandbox deny it")])
                    assert b"is denied by sandbox deny it" in await reader.read(-1)
            await w.quiet()

    in_loop(scenario())


def test_without_an_answer_it_is_refused_and_not_asked_again() -> None:
    async def scenario() -> None:
        async with world(waiting=Waiting(wait_s=0.05)) as w:
            with w.gateway.waiting.watch() as events:
                assert await w.ask(443, client_hello("new.example.com")) == ACCESS_DENIED
                assert await w.ask(443, client_hello("new.example.com")) == ACCESS_DENIED
                assert (await events.get()).why is None
                assert (await events.get()).why == "nobody answered within 0.05 s" and events.empty()
                answer = await w.ask(80, plain("new.example.com"))
                assert b"no endpoint names new.example.com:80; nobody answered within 0.05 s" in answer
            first, second, third = await w.quiet()
        assert first["reason"] == "no endpoint names new.example.com:443; nobody answered within 0.05 s"
        assert second["reason"] == "no endpoint names new.example.com:443"
        assert {first["verdict"], second["verdict"], third["verdict"]} == {"refused"}

    in_loop(scenario())


def test_not_now_and_nobody_there() -> None:
    async def scenario() -> None:
        async with world() as w:
            waiting = w.gateway.waiting
            assert await w.ask(443, client_hello("new.example.com")) == ACCESS_DENIED, "nobody watches"
            with waiting.watch() as events:
                asking = asyncio.create_task(w.ask(443, client_hello("new.example.com")))
                await events.get()
                assert waiting.dismiss("new.example.com", 443) and not waiting.dismiss("new.example.com", 443)
                assert await asking == ACCESS_DENIED
                asking = asyncio.create_task(w.ask(443, client_hello("other.example.com")))
                await until(lambda: waiting.held == 1)
            assert await asking == ACCESS_DENIED
            reasons = [line["reason"].partition("; ")[2] for line in await w.quiet()]
        assert reasons == ["", "whoever was asked did not allow it", "nobody is there any more to be asked"]

    in_loop(scenario())


def test_what_no_endpoint_can_name_is_not_asked_about() -> None:
    async def scenario() -> None:
        rules = Rule("denied.example.com", deny=True), Rule("known.example.com", methods=("GET",))
        async with world(*rules, authority=guest_authority()) as w:
            with w.gateway.waiting.watch() as events:
                for name in ("localhost", "db", "x.localhost", "denied.example.com", "known.example.com"):
                    assert b"403" in await w.ask(80, plain(name).replace(b"GET", b"PUT")), name
                assert events.empty()
            await w.quiet()

    in_loop(scenario())


def test_a_guest_that_asks_for_everything_is_bounded() -> None:
    async def scenario() -> None:
        async with world() as w:
            waiting = w.gateway.waiting
            with waiting.watch() as events:
                names = [f"n{number}.example.com" for number in range(MOST_NAMES)]
                asking = [asyncio.create_task(w.ask(80, plain(name))) for name in names]
                await until(lambda: waiting.held == MOST_NAMES)
                assert b"403" in await w.ask(80, plain("one.more.example.com")), "refused at once"
                more = MOST_HELD - MOST_NAMES
                asking += [asyncio.create_task(w.ask(80, plain(names[0]))) for _ in range(more)]
                await until(lambda: waiting.held == MOST_HELD)
                assert b"403" in await w.ask(80, plain(names[0])), "refused at once"
                assert events.qsize() == MOST_NAMES
            assert all(b"403" in answer for answer in await asyncio.gather(*asking))
            assert waiting.held == 0
            await w.quiet()

    in_loop(scenario())


def test_the_end_of_the_gateway_ends_the_waiting() -> None:
    async def scenario() -> None:
        waiting = Waiting()
        with waiting.watch():
            async with world(waiting=waiting) as w:
                asking = asyncio.create_task(w.ask(80, plain("new.example.com")))
                await until(lambda: waiting.held == 1)
                text = w.journal.path
                await w.gateway._close()
                assert waiting.held == 0 and "cut off" in text.read_text()
                assert json.loads(text.read_text())["host"] == "new.example.com"
            await asking

    in_loop(scenario())
