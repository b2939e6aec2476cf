"""From sizes and times as people write them to bytes and seconds, and back."""

from __future__ import annotations

import re
from fractions import Fraction

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB
TIB = 1024 * GIB

MINUTE = 60
HOUR = 60 * MINUTE
DAY = 24 * HOUR

DURATION_PATTERN = r"^(?=[0-9])([0-9]{1,4}d)?([0-9]{1,5}h)?([0-9]{1,6}m)?([0-9]{1,8}s)?$"

SIZE_PATTERN = r"^[0-9]{1,12}(\.[0-9]{1,6})?\s?([kK]|[mM]|[gG]|[tT]|[kK]i|Mi|Gi|Ti|[kK]iB|MiB|GiB|TiB)$"

RATE_PATTERN = SIZE_PATTERN.removesuffix("$") + "/s$"

_SIZE = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,6})?)\s?([a-zA-Z]*)")
_FACTORS = {"k": KIB, "m": MIB, "g": GIB, "t": TIB}


def parse_size(text: str) -> int:
    """A size such as `4GiB`, `512MiB` or `1.5g` in bytes. All units are powers of 1024, as in Docker and QEMU.

    Raises ValueError with a message for people, also for `GB`: some read it with 1000, others with 1024.
    """
    match = _SIZE.fullmatch(text)
    if match is None:
        raise ValueError("must be a size such as 4GiB or 512MiB")
    number, unit = match.groups()
    if not unit:
        raise ValueError(f"has no unit: write {number}MiB or {number}GiB")
    if re.fullmatch("[kKmMgGtT][bB]", unit):
        raise ValueError(f"has a unit of two meanings: write {number}{unit[0].upper()}iB")
    if not re.search(SIZE_PATTERN, text):
        raise ValueError(f"has the unknown unit {unit!r}: write MiB or GiB")
    size = Fraction(number) * _FACTORS[unit[0].lower()]
    if size.denominator != 1:
        raise ValueError("is not a whole number of bytes")
    return int(size)


def format_size(size: int) -> str:
    """Bytes as text, in the largest unit that shows them exactly: `4GiB` for 4294967296."""
    for unit, factor in (("TiB", TIB), ("GiB", GIB), ("MiB", MIB), ("KiB", KIB)):
        if size and size % factor == 0:
            return f"{size // factor}{unit}"
    return f"{size} bytes"


def parse_rate(text: str) -> int:
    """A rate such as `10MiB/s` in bytes per second. Raises ValueError with a message for people."""
    size, slash, unit = text.partition("/")
    if (slash, unit) != ("/", "s"):
        raise ValueError("must be a rate such as 10MiB/s")
    return parse_size(size)


def format_rate(rate: int) -> str:
    """Bytes per second as text: `4MiB/s` for 4194304."""
    return f"{format_size(rate)}/s"


def parse_duration(text: str) -> int:
    """A time such as `30m`, `8h`, `1h30m` or `2d` in seconds. Raises ValueError with a message for people."""
    match = re.fullmatch(DURATION_PATTERN, text)
    if match is None:
        raise ValueError("must be a time such as 30m or 8h")
    units = zip(match.groups(), (DAY, HOUR, MINUTE, 1), strict=True)
    return sum(int(part[:-1]) * factor for part, factor in units if part)


def format_duration(seconds: int) -> str:
    """Seconds as text, in the units that show them exactly: `1h30m` for 5400."""
    parts = []
    for unit, factor in (("d", DAY), ("h", HOUR), ("m", MINUTE), ("s", 1)):
        count, seconds = divmod(seconds, factor)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0s"
