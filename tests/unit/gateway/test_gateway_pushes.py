"""Reading pushes: against a slow reading of the whole body, as git's own receive-pack does it."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from slow_git import CAPABILITIES, Command, git_reads, judge, line, push, slowly_allowed

from engine.gateway.body_checks import BodyRefused, HeldBody
from engine.gateway.errors import GatewayError
from engine.gateway.pkt_lines import BadLine, PktLines
from engine.gateway.pushes import Pushes, whole_ref

A, B, ZERO = b"a" * 40, b"b" * 40, b"0" * 40
AGENT = Pushes(("refs/heads/agent/*",))


def refusal(body: bytes, *checks: Pushes) -> str:
    with pytest.raises(BodyRefused) as caught:
        judge(body, *checks)
    return f"{caught.value.brief} / {caught.value.hint}"


def test_a_named_ref_goes_through_whole() -> None:
    body = push((A, B, b"refs/heads/agent/x"), pack=b"PACK" + b"x" * 300_000)
    assert judge(body) == body
    assert judge(body, pieces=[1] * 200) == body


def test_a_question_without_commands_goes_through_and_nothing_behind_it() -> None:
    assert judge(b"0000") == b"0000"
    assert judge(b"0000", pieces=[1, 1, 1]) == b"0000"
    for rest in (b"PACK", line(b" ".join((A, B, b"refs/heads/main"))), b"0"):
        assert "goes on after" in refusal(b"0000" + rest)
        held = HeldBody((AGENT,), ())
        held.feed(b"0000")
        with pytest.raises(BodyRefused):
            held.feed(rest)


def test_what_is_refused_says_the_edit() -> None:
    assert refusal(push((A, B, b"refs/heads/main"))) == (
        "a push to refs/heads/main; it may push to agent/* only / write `push: [agent/*, main]`"
    )
    assert refusal(push((A, ZERO, b"refs/heads/agent/x"))) == (
        "a push that would delete refs/heads/agent/x; it may only create and update refs"
        " / write `changes: [create, update, delete]`"
    )
    only = Pushes(("refs/heads/agent/*",), ("create",))
    assert "write `changes: [create, update]`" in refusal(push((A, B, b"refs/heads/agent/x")), only)
    assert judge(push((ZERO, B, b"refs/heads/agent/x")), only)


def test_one_check_must_take_all_of_a_push() -> None:
    docs = Pushes(("refs/heads/docs",), ("update",))
    assert judge(push((A, B, b"refs/heads/docs")), AGENT, docs)
    assert judge(push((ZERO, B, b"refs/heads/agent/x")), docs, AGENT)
    assert "refs/heads/docs" in refusal(push((ZERO, B, b"refs/heads/docs"), (A, B, b"refs/heads/agent/x")), docs, AGENT)


@pytest.mark.parametrize(
    "body",
    [
        push((A, B, b"refs/heads/agent/x"), before=line(b"shallow " + A)),
        push((A, B, b"refs/heads/agent/x"), before=line(b"shallow " + A + b"\n") * 3),
        push((b"a" * 64, b"b" * 64, b"refs/heads/agent/x")),
        push((A, B, b"refs/heads/agent/x"), (ZERO, B, b"refs/heads/agent/\xc3\xa4")),
        push((A, B, b"refs/heads/agent/x"), capabilities=b""),
    ],
)
def test_what_git_writes_is_taken(body: bytes) -> None:
    assert judge(body) == body


COMMAND = b" ".join((A, B, b"refs/heads/agent/x"))
BAD = {
    "capital digits in an id": push((A.upper(), B, b"refs/heads/agent/x")),
    "ids of two lengths": push((A, b"b" * 64, b"refs/heads/agent/x")),
    "nothing into nothing": push((ZERO, ZERO, b"refs/heads/agent/x")),
    "capabilities at a later command": line(COMMAND) + line(COMMAND + b"\0atomic") + b"0000",
    "two NULs": push((A, B, b"refs/heads/agent/x"), capabilities=b"a\0" + COMMAND),
    "a delimiter for the flush": line(COMMAND) + b"0001" + line(b"x"),
    "an end of a response for the flush": line(COMMAND) + b"0002",
    "the length 3": line(COMMAND) + b"0003",
    "an empty line": line(COMMAND) + b"0004" + b"0000",
    "a length in capitals": b"004B" + b"x" * 0x47,
    "a length with a sign": b"+04b" + b"x" * 0x47,
    "a length past the largest": b"fff1" + b"x" * 0xFFED,
    "no flush": line(COMMAND),
    "half a line": line(COMMAND)[:-1],
    "a pack at once": b"PACK" + b"\0" * 40,
    "a shallow behind a command": line(COMMAND) + line(b"shallow " + A) + b"0000",
    "an unshallow": line(b"unshallow " + A) + line(COMMAND) + b"0000",
    "HEAD": push((A, B, b"HEAD")),
    "a ref with a newline": push((A, B, b"refs/heads/agent/x\nrefs/heads/main")),
    "a ref with two newlines at its end": push((A, B, b"refs/heads/agent/x\n\n"), capabilities=b""),
    "a ref with dots": push((A, B, b"refs/heads/agent/../main")),
    "a ref of no UTF-8": push((A, B, b"refs/heads/agent/\xff")),
    "a ref with a space": push((A, B, b"refs/heads/agent/x y")),
    "a ref with an invisible letter": push((A, B, "refs/heads/agent/\u200bx".encode())),
    "a push of version 2": line(b"command=push") + b"0001" + line(b"ref") + b"0000",
}


@pytest.mark.parametrize("name", BAD)
def test_what_could_be_read_two_ways_is_refused(name: str) -> None:
    assert refusal(BAD[name]).startswith("not a push as git writes it")


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (push((A, B, b"refs/heads/agent/x"), capabilities=b"report-status push-options"), "push options"),
        (push((A, B, b"refs/heads/agent/x"), capabilities=b"push-cert=nonce"), "a signed push"),
        (line(b"push-cert\0" + CAPABILITIES) + line(b"certificate version 0.1\n") + b"0000", "a signed push"),
    ],
)
def test_what_says_more_than_commands_is_refused(body: bytes, expected: str) -> None:
    assert refusal(body).startswith(expected)


def test_a_compressed_body_is_refused_before_it_is_read() -> None:
    with pytest.raises(BodyRefused, match="compressed"):
        HeldBody((AGENT,), [(b"Content-Encoding", b"gzip")])
    assert HeldBody((AGENT,), [(b"content-encoding", b"identity")])


def test_commands_without_end_are_refused_within_the_bound() -> None:
    many = b"".join(line(b" ".join((A, B, b"refs/heads/agent/%d" % n))) for n in range(5000))
    with pytest.raises(BodyRefused, match="within the first 256 KiB"):
        judge(many, pieces=[4096] * 200)


@pytest.mark.parametrize("refs", [("heads/x",), ("refs/heads/a b",), ("",)])
def test_a_pattern_that_makes_no_sense(refs: tuple[str, ...]) -> None:
    with pytest.raises(GatewayError):
        Pushes(refs)


def test_people_mean_branches() -> None:
    assert [whole_ref(text) for text in ("agent/*", "refs/tags/v*")] == ["refs/heads/agent/*", "refs/tags/v*"]


# The reference: all at once, and as leniently as git's receive-pack reads it.


ids = st.sampled_from([A, B, ZERO, A.upper(), b"b" * 64, b"0" * 64, b"a" * 39])
refs = st.sampled_from(
    [
        b"refs/heads/agent/x",
        b"refs/heads/main",
        b"refs/tags/agent-1",
        b"HEAD",
        b"refs/heads/agent/x/y",
        b"refs/heads/a\nb",
    ]
)
texts = st.one_of(
    st.tuples(ids, ids, refs).map(b" ".join),
    st.sampled_from([b"shallow " + A, b"shallow ", b"push-cert", b"", COMMAND]),
    st.binary(max_size=12),
)
ends = st.sampled_from([b"", b"\n", b"\0" + CAPABILITIES, b"\0push-options", b"\0" + COMMAND, b"\n\n"])
packets = st.one_of(
    st.tuples(texts, ends).map(lambda parts: line(parts[0] + parts[1])),
    st.sampled_from([b"0000", b"0001", b"0002", b"0003", b"0004", b"000", b"00zz"]),
    st.binary(max_size=6),
)
good = st.lists(
    st.tuples(
        st.sampled_from([A, ZERO]),
        st.sampled_from([B, ZERO]),
        st.sampled_from([b"refs/heads/agent/x", b"refs/heads/b"]),
    ),
    max_size=4,
)
bodies = st.one_of(
    st.lists(packets, max_size=6).map(b"".join),
    good.map(lambda commands: push(*commands)),
    st.binary(max_size=60),
)
checks = st.sampled_from(
    [
        AGENT,
        Pushes(("refs/heads/agent/*",), ("create",)),
        Pushes(("refs/heads/*", "refs/tags/agent-*"), ("create", "update", "delete")),
    ]
)


@settings(max_examples=400, deadline=None)
@given(bodies, checks, st.lists(st.integers(0, 60), max_size=8))
@example(push((A, B, b"refs/heads/agent/x")) + push((A, B, b"refs/heads/main")), AGENT, [3])
@example(line(COMMAND) + b"0001" + line(b" ".join((A, B, b"refs/heads/main"))) + b"0000", AGENT, [])
def test_what_is_passed_on_does_nothing_else_in_gits_own_reading(body: bytes, check: Pushes, pieces: list[int]) -> None:
    try:
        onward: bytes | None = judge(body, check, pieces=pieces)
    except BodyRefused:
        onward = None
    assert onward in (None, body)
    whole = None
    with suppress(BodyRefused):
        whole = judge(body, check)
    assert whole == onward  # however it comes in pieces
    if onward is not None:
        read = git_reads(body)
        assert read is not None and all(slowly_allowed(command, check) for command in read)


@settings(max_examples=100, deadline=None)
@given(good, checks)
def test_what_is_allowed_is_passed_on(commands: list[Command], check: Pushes) -> None:
    body = push(*commands, pack=b"" if not commands else b"PACK")
    allowed = all(slowly_allowed(command, check) and command[:2] != (ZERO, ZERO) for command in commands)
    try:
        assert judge(body, check) == body and allowed
    except BodyRefused:
        assert not allowed


@settings(max_examples=200, deadline=None)
@given(st.lists(st.one_of(st.none(), st.binary(min_size=1, max_size=40)), max_size=6), st.lists(st.integers(1, 9)))
def test_lines_come_out_as_they_were_written(lines: list[bytes | None], pieces: list[int]) -> None:
    body = b"".join(b"0000" if text is None else line(text) for text in lines)
    reader, found, at = PktLines(), [], 0
    for size in (*pieces, len(body)):
        found += list(reader.feed(body[at : at + size]))
        at += size
    assert found == lines and not reader.rest


def test_a_line_that_is_none() -> None:
    with pytest.raises(BadLine):
        list(PktLines().feed(b"00g0"))
