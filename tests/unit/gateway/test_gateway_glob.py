"""Patterns with stars, against a slow matcher; and that no text takes one long."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from server_paths import slow_match, tokens_of

from engine.gateway.glob import Glob

LONGEST = 64 << 10  # of a git ref, in bytes


@settings(max_examples=2000, deadline=None)
@given(
    st.lists(st.sampled_from(["/", "*", "**", "a", "b", "ab", "/**", "**/"]), max_size=7).map("".join),
    st.lists(st.sampled_from(["/", "a", "b", "ab"]), max_size=8).map("".join),
)
def test_it_agrees_with_a_slow_one(pattern: str, text: str) -> None:
    assert Glob(pattern).matches(text) is slow_match(tokens_of(pattern), text)


@pytest.mark.parametrize(
    ("pattern", "text", "whether"),
    [
        ("/X/*/y", "/x/A/Y", True),
        ("/x/ü*", "/X/ü", True),
        ("/x/*/y", "/x/a/b/y", False),
        ("/x/**", "/X", True),
        ("/x/**", "/xy", False),
    ],
)
def test_folded(pattern: str, text: str, whether: bool) -> None:
    assert Glob(pattern, fold=True).matches(text) is whether


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        ("/d/tool-*-*-*.tar.gz", "/d/tool" + "-" * LONGEST),
        ("/x/*-*-*-*-*.tgz", "/x/" + "-" * LONGEST),
        ("/**/a/**/a/**/b", "/a" * (LONGEST // 2)),
        ("/**/a/**/a/**/a/*b*b", "/a" * (LONGEST // 2)),
        ("*-agent-*-x", "-agent-" * (LONGEST // 7)),
        ("/**a**a**a**b", "/" + "a" * LONGEST),
    ],
)
def test_no_text_takes_it_long(pattern: str, text: str) -> None:
    """As a regular expression, each of them runs for minutes or hours; the guest chooses the text."""
    assert not Glob(pattern).matches(text)
    assert not Glob(pattern, fold=True).matches(text)
