"""No encoding of a value gets through."""

from __future__ import annotations

import base64
import html
import json
import re
import shlex
import traceback
from collections.abc import Callable
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.secrets.redaction import MARK, MOST_FORMER, Redactor, hold, redact, redact_held

Encoding = Callable[[str], str]
ENCODINGS: dict[str, Encoding] = {
    "as it is": str,
    "url": quote,
    "url, all": lambda value: quote(value, safe=""),
    "url, lower case": lambda value: quote(value, safe="").replace("%2F", "%2f").replace("%3D", "%3d"),
    "url, twice": lambda value: quote(quote(value, safe=""), safe=""),
    "form": quote_plus,
    "every byte": lambda value: "".join(f"%{byte:02X}" for byte in value.encode()),
    "json": json.dumps,
    "json, within json": lambda value: json.dumps(json.dumps({"key": value})),
    "json, slashes": lambda value: json.dumps(value).replace("/", "\\/"),
    "json, escaped": lambda value: "".join(f"\\u{ord(char):04x}" for char in value),
    "json of a url": lambda value: json.dumps(f"https://x.example/?key={quote(value)}"),
    "repr": repr,
    "shell": shlex.quote,
    "html": html.escape,
    "hex": lambda value: value.encode().hex(),
    "base64": lambda value: base64.b64encode(value.encode()).decode(),
    "base64, for URLs": lambda value: base64.urlsafe_b64encode(value.encode()).decode().rstrip("="),
    "base64, in a URL": lambda value: quote(base64.b64encode(value.encode()).decode(), safe=""),
    "base64, in JSON": lambda value: json.dumps(base64.b64encode(value.encode()).decode()).replace("/", "\\/"),
    "basic": lambda value: base64.b64encode(f"x-access-token:{value}".encode()).decode(),
    "basic, two more": lambda value: base64.b64encode(f"xx:{value}yy".encode()).decode(),
    "basic, one more": lambda value: base64.b64encode(f"x:y{value}y".encode()).decode(),
}
ASCII = "".join(map(chr, range(0x20, 0x7F)))
VALUES = st.text(ASCII, min_size=8, max_size=80)
SURROUNDINGS = st.text(max_size=20)


def kernel(encoding: str, value: str) -> str:
    """The part of what an encoding makes that is the value's alone."""
    encoded = ENCODINGS[encoding](value)
    return {"json": encoded[1:-1], "repr": encoded[1:-1]}.get(encoding, encoded)


@pytest.mark.parametrize("encoding", ENCODINGS)
@given(value=VALUES, before=SURROUNDINGS, after=SURROUNDINGS)
def test_no_encoding_of_it_is_left(encoding: str, value: str, before: str, after: str) -> None:
    text = before + ENCODINGS[encoding](value) + after
    clean = redact(text, [value])
    assert value not in clean
    assert kernel(encoding, value) not in clean
    assert MARK in clean


@given(values=st.lists(VALUES, min_size=1, max_size=4), parts=st.lists(SURROUNDINGS, min_size=5, max_size=5))
def test_of_several_values_none_is_left(values: list[str], parts: list[str]) -> None:
    text = "".join(part + value for part, value in zip(parts, [*values, ""] * 3, strict=False))
    clean = redact(text, values)
    assert not any(value in clean for value in values)


@given(text=st.text(max_size=200))
def test_what_holds_none_is_left_alone(text: str) -> None:
    assert redact(text, ["a value that is nowhere"]) == text
    assert redact(text, []) == text


def test_two_in_a_row_of_which_one_ends_in_a_backslash() -> None:
    value = ":000000\\"
    assert redact(value + quote(value), [value]) == MARK * 2


def test_the_longer_of_two_goes_first() -> None:
    assert redact("long-value-and-more", ["long-value", "long-value-and-more"]) == MARK


def test_backslashes_take_no_time() -> None:
    # A run that could be divided in many ways would take for ever.
    value = "\\" * 40 + '"' * 40
    assert value not in redact(json.dumps(json.dumps(value)) + "\\" * 5000, [value])


def test_a_long_text_takes_no_time() -> None:
    value = "sk-ant-api03-" + "Ab/+_-" * 20
    clean = redact("x" * 100_000 + json.dumps(value) + "y" * 100_000, [value])
    assert value not in clean and len(clean) < 200_010


def test_it_does_not_show_what_it_takes_out() -> None:
    redactor = Redactor(["a-secret-value"])
    assert "secret" not in repr(redactor) and "1 values" in repr(redactor)


def test_what_a_process_holds_is_taken_out_of_its_tracebacks() -> None:
    value = hold("held-by-this-process-1")
    try:
        raise ValueError(f"cannot parse {value!r}")
    except ValueError as error:
        text = redact_held("".join(traceback.format_exception(error)))
    assert value not in text and f"cannot parse '{MARK}'" in text


def test_of_values_with_a_successor_the_last_ones_are_taken_out() -> None:
    redactor = Redactor(["the-one-of-now"])
    for number in range(MOST_FORMER + 2):
        redactor.add(f"token-{number:04}")
        redactor.outdate(f"token-{number:04}")
    assert redactor("the-one-of-now token-0000 token-0001 token-0002") == f"{MARK} token-0000 token-0001 {MARK}"
    redactor.add("token-0002")  # it counts again
    for number in range(MOST_FORMER):
        redactor.add(f"another-{number:04}")
        redactor.outdate(f"another-{number:04}")
    assert redactor("the-one-of-now token-0002 token-0003") == f"{MARK} {MARK} token-0003"
    redactor.outdate("a value that is nowhere")
    assert repr(redactor) == f"Redactor({MOST_FORMER + 2} values)"


def test_a_new_value_makes_nothing_anew_of_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = []
    really = re.compile
    monkeypatch.setattr(
        re, "compile", lambda pattern, *flags: (compiled.append(len(pattern)), really(pattern, *flags))[1]
    )
    redactor = Redactor()
    for number in range(20):
        redactor.add(f"token-{number:04}")
        redactor("a line of the log")
    assert len(compiled) == 20 and max(compiled) < 2 * min(compiled)
