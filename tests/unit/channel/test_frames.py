from __future__ import annotations

import os
import pwd

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmm.guest.guestd.accounts import DEFAULT_PATH, login_environment, merge_environment, parse_environment
from vmm.guest.guestd.wire import (
    DATA,
    FLUSH,
    HELLO,
    HELLO_OK,
    MAGIC,
    MAX_PAYLOAD,
    Decoder,
    Frame,
    decode_object,
    encode_frame,
)

frames = st.lists(
    st.builds(Frame, st.integers(0, 2**32 - 1), st.integers(1, 10), st.integers(0, 3), st.binary(max_size=300)),
    max_size=8,
)
cuts = st.lists(st.integers(1, 400), max_size=40)


def encoded(frame: Frame) -> bytes:
    return encode_frame(frame.stream, frame.kind, frame.sub, frame.payload)


def feed(decoder: Decoder, data: bytes, sizes: list[int]) -> list[Frame]:
    got, at = [], 0
    for size in sizes:
        got += decoder.feed(data[at : at + size])
        at += size
    return got + decoder.feed(data[at:])


@given(frames, cuts)
def test_any_cut_gives_the_same_frames(sent: list[Frame], sizes: list[int]) -> None:
    decoder = Decoder()
    assert feed(decoder, b"".join(encoded(frame) for frame in sent), sizes) == sent
    assert decoder.skipped == 0


@given(st.binary(max_size=600), frames, cuts)
def test_garbage_before_is_skipped(garbage: bytes, sent: list[Frame], sizes: list[int]) -> None:
    decoder = Decoder()
    got = feed(decoder, garbage + b"".join(encoded(frame) for frame in sent), sizes)
    assert got == sent
    assert decoder.skipped == (len(garbage) if sent else decoder.skipped)


@given(frames, st.binary(max_size=2000), st.integers(0, 2400), frames, cuts)
def test_flush_ends_any_half_frame(
    before: list[Frame], payload: bytes, cut: int, after: list[Frame], sizes: list[int]
) -> None:
    half = encode_frame(7, DATA, 0, payload)[:cut]
    data = b"".join(encoded(frame) for frame in before) + half + FLUSH
    hello = Frame(0, HELLO, 0, bytes(16))
    data += b"".join(encoded(frame) for frame in [hello, *after])
    got = feed(Decoder(), data, sizes)
    assert got[: len(before)] == before
    assert got[-1 - len(after) :] == [hello, *after]
    assert len(got) - len(before) - len(after) - 1 <= 1  # the half frame, filled up, may come out as a whole one


@given(st.binary(max_size=600), frames, st.integers(0, 300), frames, cuts)
def test_a_host_sees_nothing_from_before_its_answer(
    garbage: bytes, before: list[Frame], cut: int, after: list[Frame], sizes: list[int]
) -> None:
    nonce = b"n0nce-of-16bytes"
    old = b"".join(encoded(frame) for frame in before)
    data = garbage + old + encode_frame(3, DATA, 1, bytes(300))[:cut] + nonce  # a nonce without its header is no answer
    hello = Frame(0, HELLO_OK, 0, nonce + b"{}")
    decoder = Decoder()
    decoder.expect(nonce)
    got = feed(decoder, data + b"".join(encoded(frame) for frame in [hello, *after]), sizes)
    assert got == [hello, *after]
    assert decoder.skipped == 0


def test_a_header_that_lies_about_its_length_is_no_header() -> None:
    decoder = Decoder()
    bad = bytearray(encode_frame(1, DATA, 0, b"x"))
    bad[4] = 0xFF
    good = Frame(2, DATA, 0, b"y")
    assert decoder.feed(bytes(bad) + MAGIC + encoded(good)) == [good]
    with pytest.raises(ValueError, match="payload"):
        encode_frame(1, DATA, 0, bytes(MAX_PAYLOAD + 1))


@pytest.mark.parametrize("data", [b"", b"[1]", b"{", b"\xff", b"[" * 100_000])
def test_what_is_no_json_object_is_a_value_error(data: bytes) -> None:
    with pytest.raises(ValueError):
        decode_object(data)


def test_etc_environment() -> None:
    text = "# comment\nA=1\nexport B='two words'\n C = \"x=y\" \nbroken\nD=\n"
    assert parse_environment(text) == {"A": "1", "B": "two words", "C": "x=y", "D": ""}
    assert merge_environment("A=1\nB=2\n#C=3\n", ["B=new", "D=4"]) == "A=1\n#C=3\nB=new\nD=4\n"


def test_a_users_own_programs_are_found() -> None:
    account = pwd.getpwuid(os.getuid())
    user = pwd.struct_passwd(("agent", "x", 1000, 1000, "", "/home/agent", "/bin/bash"))
    root = pwd.struct_passwd(("root", "x", 0, 0, "", "/root", "/bin/bash"))
    assert login_environment(user, "/nowhere")["PATH"].startswith("/home/agent/.local/bin:/usr/local/sbin:")
    assert login_environment(root, "/nowhere")["PATH"] == DEFAULT_PATH
    assert login_environment(account, "/nowhere")["HOME"] == account.pw_dir
