from __future__ import annotations

import base64
from dataclasses import replace

import pytest

from engine.gateway.injection import (
    CredentialRefused,
    check_foreign,
    credentials_for,
    find_placeholder,
    without_rivals,
)
from engine.gateway.needles import MOST_HOSTS, MOST_VALUES, Given
from engine.gateway.rules import Injection, Rule

VALUE = "sk-real-0123456789"
HELD = "held-by-the-guest"
KEY = Injection("key", "authorization", "bearer", drop=("x-api-key",), placeholders=(HELD,))
GIT = Injection("git", "authorization", "basic", user="x-access-token", placeholders=(HELD,))
GOOGLE = Injection("key", "x-goog-api-key", "raw", placeholders=(HELD,))


def basic(text: str) -> bytes:
    return b"Basic " + base64.b64encode(text.encode())


@pytest.mark.parametrize(
    ("injection", "header"),
    [
        (KEY, (b"authorization", b"Bearer " + VALUE.encode())),
        (GIT, (b"authorization", basic(f"x-access-token:{VALUE}"))),
        (GOOGLE, (b"x-goog-api-key", VALUE.encode())),
    ],
)
def test_forms(injection: Injection, header: tuple[bytes, bytes]) -> None:
    assert credentials_for([injection], lambda name: VALUE).headers == [header]


@pytest.mark.parametrize("value", [None, "", "a\r\nX: y", "a\0", " zq", "zq\n", "ключ", "zq\x7f"])
def test_a_value_that_is_missing_or_fits_into_no_header_is_refused_and_not_told(value: str | None) -> None:
    with pytest.raises(CredentialRefused) as caught:
        credentials_for([KEY], lambda name: value)
    error = caught.value
    assert "secret key" in error.brief and error.__cause__ is None
    if value:
        assert value not in f"{error.brief}{error.details}{error.hint}{error!r}"
    assert VALUE not in repr(credentials_for([KEY], lambda name: VALUE))


def test_rivals_are_removed_however_they_are_spelt() -> None:
    names = [b"Authorization", b"AUTHORIZATION", b"X-Api-Key", b"x_api_key", b"X_Api-Key", b"X-Api-Keys", b"Accept"]
    kept = without_rivals([(name, b"v") for name in names], [KEY])
    assert [name for name, _ in kept] == [b"X-Api-Keys", b"Accept"]
    token = [(b"Private-Token", HELD.encode()), (b"Api-Key", b"another")]
    assert without_rivals(token, [KEY]) == token[1:]


@pytest.mark.parametrize(
    ("headers", "target", "foreign"),
    [
        ([], "/", False),
        ([(b"Authorization", f"Bearer {HELD}".encode())], "/", False),
        ([(b"authorization", basic(f"x-access-token:{HELD}"))], "/", False),
        ([(b"X_Api_Key", HELD.encode())], "/", False),
        ([(b"Authorization", b"")], "/", False),
        ([(b"Cookie", b"session=1")], "/", False),
        ([(b"Authorization", b"Bearer sk-stolen")], "/", True),
        ([(b"authorization", basic("x-access-token:stolen"))], "/", True),
        ([(b"X_Api-Key", b"sk-stolen")], "/", True),
        ([(b"Private-Token", b"x")], "/", True),
        ([], "/?access_token=x", True),
        ([], "/?a=b;Api%5Fkey=x", True),
        ([], "/?api_key=", False),
        ([], f"/?api_key={HELD}", False),
        ([], "/?key=x", False),
    ],
)
def test_another_credential(headers: list[tuple[bytes, bytes]], target: str, foreign: bool) -> None:
    rule = Rule("a.example", injections=(KEY,))
    free = replace(rule, foreign_credentials=True)
    assert check_foreign(headers, target, [free], [KEY]) is foreign
    assert not check_foreign(headers, target, [Rule("a.example")], [])
    if foreign:
        with pytest.raises(CredentialRefused, match="not the sandbox's own") as caught:
            check_foreign(headers, target, [rule], [KEY])
        assert "stolen" not in caught.value.brief
    else:
        assert not check_foreign(headers, target, [rule], [KEY])


def test_another_credential_where_nobody_knows_what_the_guest_holds() -> None:
    unknown = replace(KEY, placeholders=(), paths=("/x",))
    rule = Rule("a.example", injections=(unknown,))
    headers = [(b"Authorization", b"Bearer whatever")]
    assert not check_foreign(headers, "/x", [rule], [unknown])  # it will be removed
    with pytest.raises(CredentialRefused):
        check_foreign(headers, "/y", [rule], [])  # it would get there


def test_google_s_key_may_stand_in_the_query() -> None:
    with pytest.raises(CredentialRefused):
        check_foreign([], "/v1?key=AIza", [Rule("a.example", injections=(GOOGLE,))], [GOOGLE])


@pytest.mark.parametrize(
    ("headers", "target", "found"),
    [
        ([], "/", False),
        ([(b"X-Any", f"a {HELD} b".encode())], "/", True),
        ([(b"Authorization", basic(f"u:{HELD}"))], "/", True),
        ([(b"X-Packed", base64.b64encode(HELD.encode()))], "/", True),
        ([], f"/{HELD}", True),
        ([], "/?a=held%2Dby-the-guest", True),
        ([], "/?a=held-by", False),
    ],
)
def test_a_placeholder_in_a_head(headers: list[tuple[bytes, bytes]], target: str, found: bool) -> None:
    assert find_placeholder(headers, target, [HELD]) is found
    assert not find_placeholder(headers, target, [])


def test_what_must_not_come_back() -> None:
    values = {"key": VALUE, "git": "ghp_0123456789"}
    rule = Rule("a.example", injections=(KEY, GIT, replace(KEY, secret="none")))
    found = Given().needles("a.example", [rule], values.get)
    assert VALUE.encode() in found and b"ghp_0123456789" in found
    assert any(form in basic("x-access-token:ghp_0123456789") for form in found)


def test_what_was_given_is_remembered_within_bounds() -> None:
    given, rule = Given(), Rule("*.a.example", injections=(KEY,))
    for number in range(MOST_VALUES + 3):
        found = given.needles("a.example", [rule], {"key": f"value-{number:04}"}.get)
    assert b"value-0003" in found and b"value-0010" in found and b"value-0002" not in found
    assert given.needles("a.example", [], {}.get) == found  # also when the rules have no secret any more
    for number in range(MOST_HOSTS):
        given.needles(f"b{number}.example", [rule], values_of_one := {"key": "value-of-all"}.get)
    assert given.needles("a.example", [], values_of_one) == []
    many = Rule("c.example", injections=tuple(replace(KEY, secret=f"s{number}") for number in range(20)))
    assert {name.encode() for name in (f"secret-{number}" for number in range(20))} <= {
        *given.needles("c.example", [many], lambda name: f"secret-{name[1:]}")
    }
