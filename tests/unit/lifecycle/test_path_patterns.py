"""From requests to the patterns that people would write; each request that was seen must be let through again."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.gateway.paths import BadTarget, read_target
from engine.gateway.policy import Policy
from engine.gateway.rules import Rule
from engine.lifecycle.path_patterns import PATTERNS, Conditions, conditions_for, patterns_for
from sandboxfile.sections.endpoints import METHODS


@pytest.mark.parametrize(
    ("paths", "expected"),
    [
        (["/"], ("/",)),
        (["/v1/messages"], ("/v1/messages",)),
        (["/users/1", "/users/22"], ("/users/*",)),
        (["/users/1/posts/2", "/users/3"], ("/users/*", "/users/*/posts/*")),
        (["/o/3fa85f64-5717-4562-b3fc-2c963f66afa6/x"], ("/o/*/x",)),
        (["/commits/66b39a4f0c", "/commits/0689bd4aa1.json"], ("/commits/*",)),
        (["/v1/messages/msg_01XFDUDYJgAACzvnptvVoYEL"], ("/v1/messages/*",)),
        (["/v2/a", "/v1.2/b"], ("/v1.2/b", "/v2/a")),
        (["/models/claude-3-5-sonnet-20241022"], ("/models/claude-3-5-sonnet-20241022",)),
        ([f"/simple/{name}/" for name in "abcdefghijk"], ("/simple/**",)),
        ([f"/pkg/{name}" for name in "abcdefghijk"], ("/pkg/*",)),
        ([f"/{name}" for name in "abcdefghijk"], ("/*",)),
        ([f"/{name}/x" for name in "abcdefghijk"], ()),
        (["/a*b", "/a"], ("/*",)),
        (["/@scope%2Fname"], ("/@scope%2Fname", "/@scope/name")),
        (["/a;v=1"], ("/a", "/a;v=1")),
        (["/x", "/x/"], ("/x", "/x/")),
        (["//a"], None),
        (["/a/../b"], None),
        (["*"], None),
        (["/" + "a" * 1000 + "…"], None),
    ],
    ids=range(21),
)
def test_patterns(paths: list[str], expected: tuple[str, ...] | None) -> None:
    assert patterns_for(paths) == expected


def test_each_method_has_its_own_paths() -> None:
    asked = [("GET", "/a"), ("HEAD", "/a"), ("GET", "/b"), ("POST", "/b"), ("DELETE", "/c")]
    assert conditions_for(asked, METHODS) == [
        Conditions(("DELETE",), ("/c",)),
        Conditions(("GET",), ("/a",)),
        Conditions(("GET", "POST"), ("/b",)),
    ]


def test_what_a_file_cannot_name_is_not_narrowed() -> None:
    assert conditions_for([("PROPFIND", "/a")], METHODS) == [Conditions((), ("/a",))]
    assert conditions_for([("GET", "//a"), ("POST", "/b")], METHODS) == [Conditions(("GET", "POST"), ())]


def test_there_are_never_too_many() -> None:
    paths = [f"/{a}/{b}/{c}" for a in "abcdefg" for b in "hijklmn" for c in "opqrstu"]
    found = patterns_for(paths)
    assert found is not None and len(found) <= PATTERNS


segments = st.one_of(
    st.sampled_from(
        ["", "a", "b", "v1", "1", "42", "x%2Fy", "a;b", "a;b=1/c", "*", "**", "6f1e0c9a", "x.json", "9.tgz"]
    ),
    st.text("ab1%2F*;.~-", max_size=6),
)
requests = st.tuples(st.sampled_from(["GET", "HEAD", "POST", "PUT"]), st.lists(segments, max_size=4).map("/".join))


@settings(max_examples=300, deadline=None)
@given(st.lists(requests, min_size=1, max_size=40))
def test_what_was_seen_is_allowed_again(asked: list[tuple[str, str]]) -> None:
    def is_read(path: str) -> bool:
        try:
            read_target(path, strict=True)
        except BadTarget:
            return False
        return True

    asked = [(method, f"/{path}") for method, path in asked]
    strict = [request for request in asked if is_read(request[1])]
    for each in (asked, strict):
        rules = [Rule("a.example", methods=one.methods, paths=one.paths) for one in conditions_for(each, METHODS)]
        for method, path in each:
            assert Policy(rules).judge("a.example", 443, method, path).allowed or not each
