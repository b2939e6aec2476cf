"""Sizes and times as values of fields."""

from __future__ import annotations

from typing import Any

from pydantic import BeforeValidator

from sandboxfile.diagnostics import quote
from sandboxfile.quantities import (
    DAY,
    DURATION_PATTERN,
    MIB,
    MINUTE,
    RATE_PATTERN,
    SIZE_PATTERN,
    format_rate,
    format_size,
    parse_duration,
    parse_rate,
    parse_size,
)
from sandboxfile.sections.fields import refuse


def size(at_least: int, at_most: int) -> BeforeValidator:
    """Reads a size between the two, which are bytes."""

    def read(value: Any) -> int:
        if isinstance(value, int) and not isinstance(value, bool):
            raise refuse(f"has no unit, got {value}", f"write {value}MiB or {value}GiB")
        if not isinstance(value, str):
            raise refuse(f"must be a size such as 4GiB or 512MiB, got {quote(value)}")
        try:
            found = parse_size(value)
        except ValueError as error:
            problem, _, hint = str(error).partition(": ")
            raise refuse(f"{problem}, got {quote(value)}", hint or None)
        if found % MIB:
            raise refuse(f"must be a whole number of MiB, got {quote(value)}")
        if found < at_least:
            raise refuse(f"must be at least {format_size(at_least)}, got {quote(value)}")
        if found > at_most:
            raise refuse(f"must be at most {format_size(at_most)}, got {quote(value)}")
        return found

    return BeforeValidator(read)


def rate(at_least: int, at_most: int) -> BeforeValidator:
    """Reads a rate between the two, which are bytes per second."""

    def read(value: Any) -> int:
        if not isinstance(value, str):
            raise refuse(f"must be a rate such as 10MiB/s, got {quote(value)}")
        try:
            found = parse_rate(value)
        except ValueError as error:
            problem, _, hint = str(error).partition(": ")
            raise refuse(f"{problem}, got {quote(value)}", hint or None)
        if not at_least <= found <= at_most:
            limits = f"{format_rate(at_least)} and {format_rate(at_most)}"
            raise refuse(f"must be between {limits}, got {quote(value)}")
        return found

    return BeforeValidator(read)


def duration(value: Any) -> int:
    """Reads a time in seconds."""
    if isinstance(value, int) and not isinstance(value, bool):
        raise refuse(f"has no unit, got {value}", f"write {value}m or {value}h")
    if not isinstance(value, str):
        raise refuse(f"must be a time such as 30m or 8h, got {quote(value)}")
    try:
        seconds = parse_duration(value)
    except ValueError as error:
        raise refuse(f"{error}, got {quote(value)}", "such as 30m, 8h or 1h30m")
    if not MINUTE <= seconds <= 30 * DAY:
        raise refuse(f"must be between 1m and 30d, got {quote(value)}")
    return seconds


DURATION_SCHEMA = {"type": "string", "pattern": DURATION_PATTERN, "examples": ["30m", "8h"]}
RATE_SCHEMA = {"type": "string", "pattern": RATE_PATTERN, "examples": ["10MiB/s", "512KiB/s"]}
SIZE_SCHEMA = {"type": "string", "pattern": SIZE_PATTERN, "examples": ["4GiB", "512MiB"]}
