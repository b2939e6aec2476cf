"""The attempts of engine/attacks that need a gateway and no machine, against the real one, as whoever runs the tests.

They run as they do in a guest: a program of their own, which has nothing but the gateway's sockets.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from gateway_world import in_loop, until
from inside_world import guest_authority, server_authority, trusting

from engine.attacks import careless_server, transitions
from engine.attacks.batch import COMMAND, make_order, read_answers
from engine.attacks.case import GATEWAY, Case, load_cases
from engine.attacks.judgement import Outcome, judge, summary
from engine.gateway.journal import Journal
from engine.gateway.limits import Limits
from engine.gateway.policy import Policy
from engine.gateway.rules import Rule
from engine.gateway.server import start_gateway
from engine.secrets.rules import injections_for, kind_of

REAL = {
    "anthropic": "sk-ant-api03-real-0123456789abcdef",
    "github": "ghp_real0123456789abcdef",
    "openai": "sk-proj-real0123456789abcdef",
}
NAMES = {
    "managed": "api.anthropic.com",
    "second": "api.github.com",
    "third": "api.openai.com",
    "spliced": "other.example.com",
    "taken": "taken.example.com",
    "denied": "no.wild.example.com",
}
KEY, TOKEN, THIRD = (
    injections_for(secret, NAMES[host], kind_of(secret, REAL[secret], NAMES[host]))
    for secret, host in (("anthropic", "managed"), ("github", "second"), ("openai", "third"))
)
NAMES |= {"held": KEY[0].placeholders[0], "held_second": TOKEN[0].placeholders[0]}
NAMES |= {"held_third": THIRD[0].placeholders[0]}
RULES = (
    Rule(NAMES["managed"], injections=KEY, methods=("POST",), paths=("/v1/messages",)),
    Rule(NAMES["second"], injections=TOKEN, methods=("GET",), paths=("/repos/acme/**",)),
    Rule(NAMES["third"], injections=THIRD, methods=("POST",), paths=("/v1/responses",)),
    Rule(NAMES["spliced"]),
    Rule("*.wild.example.com"),
    Rule(NAMES["denied"], deny=True),
    Rule("*.inward.example.com"),
)
PUBLIC = "203.0.113.10"
CASES = [case for case in load_cases() if case.needs == GATEWAY]


def server_context() -> ssl.SSLContext:
    """A server of all names, each with a certificate of its own."""
    context = server_authority().context(NAMES["managed"], "http/1.1")

    def choose(connection: Any, name: str | None, _: ssl.SSLContext) -> None:
        connection.asked_for = name
        connection.context = server_authority().context(name or "nameless.example.com", "http/1.1")

    context.sni_callback = choose
    return context


async def attack(
    cases: Sequence[Case], rules: Sequence[Rule] = RULES
) -> tuple[list[Outcome], list[tuple[str, bytes, bytes]], list[str]]:
    """What became of them, what the servers got, and the names that were looked up."""
    got: list[tuple[str, bytes, bytes]] = []
    looked_up: list[str] = []
    inward = {host_of(case): case.value for case in cases if case.kind == "an allowed name that leads inward"}
    keep = partial(careless_server.serve, keep=lambda *request: got.append(request))
    plain = await asyncio.start_server(keep, "127.0.0.1", 0)
    secure = await asyncio.start_server(keep, "127.0.0.1", 0, ssl=server_context())
    places = {80: plain.sockets[0].getsockname()[1], 443: secure.sockets[0].getsockname()[1]}

    async def resolver(name: str, port: int) -> Sequence[str]:
        looked_up.append(name)
        return [inward[name]] if name in inward else [PUBLIC]

    async def connect(address: str, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        assert address == PUBLIC, f"dialled {address}"
        return await asyncio.open_connection("127.0.0.1", places[port])

    with tempfile.TemporaryDirectory(prefix="gw-") as base, trusting(server_authority().certificate):
        directory = Path(base)
        with Journal(directory / "journal.jsonl") as journal:
            async with start_gateway(
                Policy(rules), directory, journal, resolver=resolver, connect=connect, secrets=REAL.get,
                authority=guest_authority(), limits=Limits(linger_s=0.2, head_s=5),
            ) as gateway:  # fmt: skip
                stage = {**NAMES, "gateway": {str(port): str(path) for port, path in gateway.sockets.items()}}
                said = await run_in_guest(make_order(cases, stage))
                await until(lambda: gateway.connections == 0)
            lines = [json.loads(line) for line in journal.path.read_text().splitlines()]
    plain.close()
    secure.close()
    return judge(cases, said, lines, NAMES), got, looked_up


async def run_in_guest(order: str) -> dict[str, str]:
    guest = await asyncio.create_subprocess_exec(
        sys.executable, "-I", *COMMAND[1:], stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    out, _ = await guest.communicate(order.encode())
    return read_answers(out.decode())


def host_of(case: Case) -> str:
    """The name that an attempt of "an allowed name that leads inward" asks for."""
    text = "".join(letter if letter.isalnum() else "-" for letter in case.value).strip("-")
    return f"a{len(case.value)}-{text}.inward.example.com"


@pytest.mark.timeout(240)
def test_no_attempt_gets_past_the_gateway() -> None:
    async def scenario() -> None:
        cases = [case for case in CASES if not case.states or "fresh" in case.states]
        rules = [*RULES, Rule(NAMES["taken"])]
        outcomes, got, looked_up = await attack(cases, rules)
        print(summary(outcomes, "gateway"))
        broken = [outcome for outcome in outcomes if outcome.complaints]
        assert not broken, "\n" + summary(broken, "gateway")
        check_servers(got)
        assert not [value for value in REAL.values() if value in str([outcome.said for outcome in outcomes])]
        known = {NAMES[name] for name in ("managed", "second", "third", "spliced", "taken")}
        assert {name for name in looked_up if not name.endswith(".inward.example.com")} <= known
        assert len(outcomes) > 150

    in_loop(scenario())


def check_servers(got: Sequence[tuple[str, bytes, bytes]]) -> None:
    """Each real value was in its header at its host, alone; nothing else came that no rule allows."""
    assert got
    for name, head, body in got:
        where = f"{name}: {head!r} {body!r}"
        fields = careless_server.fields_of(head)
        request = head.partition(b" HTTP/1.1\r\n")[0]
        assert b"rival" not in head + body and b"attacker" not in head + body, where
        if name == NAMES["managed"]:
            assert request == b"POST /v1/messages", where
            assert fields["x-api-key"] == [REAL["anthropic"]] and "authorization" not in fields, where
        elif name == NAMES["second"]:
            assert request.startswith(b"GET /repos/acme/"), where
            assert fields["authorization"] == [f"Bearer {REAL['github']}"] and "x-api-key" not in fields, where
        elif name == NAMES["third"]:
            assert request == b"POST /v1/responses", where
            assert fields["authorization"] == [f"Bearer {REAL['openai']}"] and "x-api-key" not in fields, where
        else:
            assert not [value for value in REAL.values() if value.encode() in head + body], where


def test_the_session_of_a_source_is_one_that_is_resumed() -> None:
    """The program that is forked: its connection lives on at the same gateway, which is seen; at another it is cut."""

    async def scenario() -> None:
        (case,) = (case for case in load_cases() if case.label == "forked: a session of its source's")
        secure = await asyncio.start_server(
            partial(careless_server.serve, keep=lambda *request: None), "127.0.0.1", 0, ssl=server_context()
        )
        with tempfile.TemporaryDirectory(prefix="gw-") as base, trusting(server_authority().certificate):
            directory = Path(base)
            async with AsyncExitStack() as stack:
                async with gateway_for(directory, secure.sockets[0].getsockname()[1]) as path:
                    await stack.enter_async_context(hold_session(directory, path))
                    said = await ask_program(directory)
                    assert said.splitlines() == [
                        transitions.SESSION_SAYS, "held: HTTP/1.1 200", "HTTP/1.1 403", "HTTP/1.1 200"
                    ]  # fmt: skip
                    assert "held: HTTP" in judged(case, said)
                async with gateway_for(directory, secure.sockets[0].getsockname()[1]):
                    said = await ask_program(directory)
                assert not judged(case, said), said
        secure.close()

    in_loop(scenario())


@asynccontextmanager
async def gateway_for(directory: Path, server_port: int) -> AsyncIterator[Path]:
    """The path of its socket for TLS."""

    async def resolver(name: str, port: int) -> Sequence[str]:
        return [PUBLIC]

    async def connect(address: str, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", server_port)

    with Journal(directory / "journal.jsonl") as journal:
        async with start_gateway(
            Policy(RULES), directory, journal, resolver=resolver, connect=connect, secrets=REAL.get,
            authority=guest_authority(), limits=Limits(linger_s=0.2, head_s=5),
        ) as gateway:  # fmt: skip
            yield gateway.sockets[443]


@asynccontextmanager
async def hold_session(directory: Path, gateway: Path) -> AsyncIterator[None]:
    """As root starts it in the source; the socket of the gateway is a path here."""
    dial = "socket.create_connection((address, int(port)), 15)"
    assert dial in transitions._SESSION
    text = transitions._SESSION.replace(
        dial, "socket.socket(socket.AF_UNIX); outer.settimeout(15); outer.connect(address)"
    )
    names = (NAMES["second"], "/repos/acme/a", NAMES["held_second"], NAMES["taken"])
    argv = (sys.executable, "-I", "-c", text, *names, str(gateway), "443", str(directory / "session"))
    program = await asyncio.create_subprocess_exec(*argv)
    try:
        await until(lambda: program.returncode is not None or (directory / "session.ready").exists())
        assert (directory / "session.ready").read_text() == transitions.SESSION_SAYS
        yield
    finally:
        if program.returncode is None:
            program.kill()
        await program.wait()


async def ask_program(directory: Path) -> str:
    reader, writer = await asyncio.open_unix_connection(directory / "session")
    said = await reader.read()
    writer.close()
    return said.decode()


def judged(case: Case, said: str) -> str:
    """What is wrong with what it says."""
    (outcome,) = judge([replace(case, journal=())], {case.label: f"{said}\n[ran]"}, [], NAMES)
    return "; ".join(outcome.complaints)


def test_a_gateway_that_lets_one_through_is_seen() -> None:
    async def scenario() -> None:
        wanted = ("names: a name that nobody allowed (plain)", "http: another path (plain)")
        cases = [case for case in CASES if case.label in wanted]
        weak = (Rule(NAMES["managed"], injections=KEY), Rule("evil.example.net"))
        outcomes, got, _ = await attack(cases, weak)
        assert [outcome.verdict for outcome in outcomes] == ["out"] * 2
        with pytest.raises(AssertionError):
            check_servers(got)

    in_loop(scenario())
