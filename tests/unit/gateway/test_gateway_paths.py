from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from server_paths import ALLOWED, SERVERS, is_inside, slow_match, tokens_of, unescape

from engine.gateway.paths import BadTarget, allows, check_pattern, denies, methods_in_query, normal_path, read_target


@pytest.mark.parametrize(
    ("sent", "wire", "readings"),
    [
        ("/", "/", ("/",)),
        ("/a/b?c=/../d", "/a/b?c=/../d", ("/a/b",)),
        ("/%61%2d%7e", "/a-~", ("/a-~",)),
        ("/a%2fb", "/a%2Fb", ("/a%2Fb", "/a/b")),
        ("/@scope%2fname", "/@scope%2Fname", ("/@scope%2Fname", "/@scope/name")),
        ("/a;x=1/b", "/a;x=1/b", ("/a;x=1/b", "/a/b")),
        ("/a;x%2fb/c", "/a;x%2Fb/c", ("/a;x%2Fb/c", "/a/c", "/a;x/b/c", "/a/b/c")),
        ("/caf%c3%a9", "/caf%C3%A9", ("/caf%C3%A9",)),
        ("/100%25", "/100%25", ("/100%25",)),
        ("/a?", "/a?", ("/a",)),
        ("*", "*", ("*",)),
    ],
)
def test_the_normal_form(sent: str, wire: str, readings: tuple[str, ...]) -> None:
    target = read_target(sent, strict=True)
    assert (target.wire, target.readings) == (wire, readings)
    assert read_target(sent, strict=False).wire == sent


@pytest.mark.parametrize(
    "sent",
    [
        *("/a/../b", "/a/%2e%2e/b", "/a/.%2E/b", "/..", "/.", "/./a", "/a/..%2fb", "/a%2f..%2fb", "/a/..;x/b", "/;/a"),
        *(
            "/a//b",
            "//a",
            "/a/%2f../b",
            "/a%2f%2fb",
            "/a/..%5cb",
            "/a\\b",
            "/%5c",
            "/a%00b",
            "/a%0ab",
            "/a%7f",
            "/a%1F",
        ),
        *("/a%", "/a%2", "/a%zz", "/%252e%252e/b", "/%252f", "/%c0%ae%c0%ae/b", "/%ff", "/%ef%bc%8e%ef%bc%8e/b"),
        *("/%e2%80%a5/b", "/%ef%bc%8f", '/a"b', "/a<b", "/a|b", "/a^b", "/a`b", "/a{b}", "/[a]", "", "a", "a/b"),
        *("http://x/", "/a#b", "/a b", "/a\tb", "/a\r\nb", "/caf\xe9", "/" + "a" * 20000),
    ],
)
def test_what_can_be_read_two_ways_is_refused(sent: str) -> None:
    with pytest.raises(BadTarget):
        read_target(sent, strict=True)


@pytest.mark.parametrize("sent", ["/a/../b?x=%2e", "/@s%2fn", "/a//b;c?d=%", '/{x}"|^', "/%zz", "/?"])
def test_without_a_condition_a_target_goes_on_byte_for_byte(sent: str) -> None:
    assert read_target(sent, strict=False).wire == sent


@pytest.mark.parametrize("sent", ["/a#b", "/a b", "a", "", "/a\nb", "/caf\xe9", "//x\x7f", "https://x/"])
def test_what_is_no_target_at_all(sent: str) -> None:
    with pytest.raises(BadTarget):
        read_target(sent, strict=False)


@pytest.mark.parametrize(
    ("pattern", "path", "matches"),
    [
        ("/a", "/a", True),
        ("/a", "/a/", False),
        ("/a", "/A", False),
        ("/a/*", "/a/b", True),
        ("/a/*", "/a/b/c", False),
        ("/a/**", "/a", True),
        ("/a/**", "/a/", True),
        ("/a/**", "/a/b/c", True),
        ("/a/**", "/ab", False),
        ("/**", "/", True),
        ("/**/x", "/x", True),
        ("/**/x", "/a/b/x", True),
        ("/**/x", "/ax", False),
        ("/a*c/d", "/abc/d", True),
        ("/a.b", "/axb", False),
        ("/%5bab]", "/%5Bab%5D", False),
        ("/%5bab%5d", "/%5Bab%5D", True),
        ("/café", "/caf%C3%A9", True),
        ("/a%2fb", "/a%2Fb", False),  # one reading is /a/b
        ("/a/*", "/a/b%2Fc", False),
        ("/a/**", "/a/b%2Fc", True),
        ("/a/*", "/a/b;c", True),
        ("/**/info/refs?service=git-upload-pack", "/o/r.git/info/refs?service=git-upload-pack", True),
        ("/**/info/refs?service=git-upload-pack", "/o/r.git/info/refs?service=git-receive-pack", False),
        ("/**/info/refs?service=git-upload-pack", "/o/r.git/info/refs?service=git-upload-pack&x", False),
        ("/**/info/refs?service=git-upload-pack", "/o/r.git/info/refs", False),
    ],
)
def test_an_allow(pattern: str, path: str, matches: bool) -> None:
    assert allows([pattern], read_target(path, strict=True)) is matches


@pytest.mark.parametrize(
    ("pattern", "path", "matches"),
    [
        ("/admin", "/ADMIN", True),
        ("/admin", "/admin/", True),
        ("/admin", "/admin;x", True),
        ("/a/b", "/a%2fB", True),
        ("/admin/**", "/Admin/x", True),
        ("/admin", "/administrator", False),
        ("/refs?service=git-receive-pack", "/refs?a&service=git%2Dreceive-pack", True),
        ("/refs?service=git-receive-pack", "/refs?service=git-upload-pack", False),
    ],
)
def test_a_deny_matches_any_reading_in_any_case(pattern: str, path: str, matches: bool) -> None:
    assert denies([pattern], read_target(path, strict=True)) is matches


@pytest.mark.parametrize("pattern", ["", "a/b", "*", "**/x", "/[ab]", "/a/../b", "/a//b", "/%00", "/a\\b", "/%2525"])
def test_a_pattern_that_can_match_nothing(pattern: str) -> None:
    with pytest.raises(BadTarget):
        check_pattern(pattern)


@pytest.mark.parametrize(
    ("query", "methods"),
    [(None, ()), ("a=b", ()), ("_method=DELETE", ("DELETE",)), ("x;%5FMethod=put&_method", ("put", ""))],
)
def test_methods_that_a_query_names(query: str | None, methods: tuple[str, ...]) -> None:
    assert methods_in_query(query) == methods


# What the matcher allows, no server may read as something else.

PIECES = [
    *("/", "//", "ok", "repos", "me", "issues", "secret", ".", "..", "%2e", "%2E%2e", "%2f", "%2F", "%5c", "\\", ";"),
    *(";x", "..;", "%3b", "%00", "%25", "%252e", "%252f", "%25252e", "%c0%ae", "%c0%af", "%e0%80%af", "%ef%bc%8e"),
    *(
        "%ef%bc%8f",
        "%e2%80%a5",
        "x",
        "y",
        "z",
        "xy",
        "%6f%6b",
        "%20",
        "%09",
        "%0a",
        "+",
        "?",
        "&",
        "@",
        ":",
        "%7e",
        "%",
    ),
]


@settings(max_examples=500, deadline=None)
@given(
    st.lists(st.sampled_from(PIECES), min_size=1, max_size=10),
    st.sampled_from(["/ok/", "/", "/repos/me/", "/x", "/ok"]),
)
def test_what_is_allowed_no_server_reads_as_anything_else(pieces: list[str], start: str) -> None:
    try:
        target = read_target(start + "".join(pieces), strict=True)
    except BadTarget:
        return
    if not allows(ALLOWED, target):
        return
    wire = target.wire.partition("?")[0].encode()
    for name, read in SERVERS.items():
        assert is_inside(read(wire)) or is_inside(unescape(read(wire))), (wire, name)


@given(st.lists(st.sampled_from(PIECES), max_size=8).map(lambda pieces: "/" + "".join(pieces).replace("?", "")))
def test_the_normal_form_of_a_normal_form_is_itself(path: str) -> None:
    try:
        once = normal_path(path)
    except BadTarget:
        return
    assert normal_path(once) == once


@settings(max_examples=500, deadline=None)
@given(
    st.lists(st.sampled_from(["/", "*", "**", "a", "b", "ab", "/**", "**/"]), max_size=6).map("".join),
    st.lists(st.sampled_from(["a", "b", "ab", "ba"]), max_size=4).map(lambda parts: "/" + "/".join(parts)),
)
def test_the_matcher_agrees_with_a_slow_one(tail: str, path: str) -> None:
    pattern = f"/{tail}"
    assert allows([pattern], read_target(path, strict=True)) is slow_match(tokens_of(pattern), path)
