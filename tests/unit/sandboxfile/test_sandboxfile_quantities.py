"""Sizes."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandboxfile.quantities import GIB, KIB, MIB, SIZE_PATTERN, TIB, format_size, parse_size


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("4GiB", 4 * GIB),
        ("512MiB", 512 * MIB),
        ("2g", 2 * GIB),
        ("2G", 2 * GIB),
        ("2Gi", 2 * GIB),
        ("1.5 GiB", 3 * GIB // 2),
        ("64k", 64 * KIB),
        ("1T", TIB),
        ("0.25GiB", GIB // 4),
    ],
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size
    assert re.search(SIZE_PATTERN, text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "must be a size"),
        ("GiB", "must be a size"),
        ("-1GiB", "must be a size"),
        ("1e9GiB", "must be a size"),
        ("99999999999999GiB", "must be a size"),
        ("٤GiB", "must be a size"),
        ("4", "has no unit"),
        ("4GB", "write 4GiB"),
        ("4mb", "write 4MiB"),
        ("4PiB", "unknown unit"),
        ("4gib", "unknown unit"),
        ("4GiB ", "must be a size"),
        ("0.0001KiB", "not a whole number of bytes"),
    ],
)
def test_no_sizes(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_size(text)


@given(st.integers(min_value=1, max_value=10**11))
def test_what_is_formatted_in_units_reads_back(size: int) -> None:
    text = format_size(size * KIB)
    assert parse_size(text) == size * KIB


def test_odd_sizes_are_shown_in_bytes() -> None:
    assert format_size(1) == "1 bytes"
    assert format_size(0) == "0 bytes"
