"""`journal --summary`: what a journal tells about each host, as a table or as JSON."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from engine.lifecycle.path_patterns import conditions_for, matches
from engine.lifecycle.traffic import Traffic
from engine.lifecycle.unneeded import Unneeded
from engine.report.columns import align
from engine.report.sizes import size
from engine.report.text import clean_line, cut

MOST_LINES = 8  # of what was asked of one host
NOTHING = Unneeded()


def render(traffic: Sequence[Traffic], *, refused_only: bool = False, unneeded: Unneeded = NOTHING) -> str:
    """Hosts with what was let through, the busiest first, and at the end what was refused, the latest first.

    Refused hosts that the agent does without are one line together.
    """
    width = shutil.get_terminal_size((120, 24)).columns
    lines: list[str] = []
    allowed = [one for one in traffic if one.is_needed and not refused_only]
    if allowed:
        allowed.sort(key=lambda one: (-(one.allowed + one.failed), one.name))
        head = ("HOST", "TIMES", "FAILED", "IN", "OUT", "LAST")
        rows = [head, *((_host(one), *_numbers(one), _clock(one.last)) for one in allowed)]
        table = align(rows).splitlines()
        lines.append(table[0])
        for line, one in zip(table[1:], allowed, strict=True):
            lines += [line, *(f"  {text}" for text in _folded(one.requests))]
    quiet = [one for one in traffic if _is_quiet(one, unneeded)]
    refused = [one for one in traffic if one.refused and one not in quiet]
    if refused:
        refused.sort(key=lambda one: one.last_refused, reverse=True)
        rows = [("REFUSED", "TIMES", "LAST", "WHY")]
        rows += [(_host(one), str(one.refused), _clock(one.last_refused), clean_line(one.reason)) for one in refused]
        table = align(rows).splitlines()
        lines += [""] if lines else []
        lines.append(table[0])
        for line, one in zip(table[1:], refused, strict=True):
            lines += [line, *(f"  {text}" for text in _folded(one.refused_requests))]
    if quiet:
        names, times = sorted({_host(one) for one in quiet}), sum(one.refused for one in quiet)
        lines += [""] if lines else []
        lines.append(f"refused, and not needed by {clean_line(unneeded.title)}: {', '.join(names)} ({times})")
    return "\n".join(cut(line, width) for line in lines)


def _is_quiet(one: Traffic, unneeded: Unneeded) -> bool:
    return bool(one.refused) and not one.is_needed and unneeded.has(one.host)


def to_json(one: Traffic, unneeded: Unneeded = NOTHING) -> dict[str, Any]:
    """`requests` are folded: a pattern of paths stands for many. `unneeded`: the agent works without this host."""
    return {
        "host": one.host,
        "port": one.port,
        "allowed": one.allowed,
        "failed": one.failed,
        "refused": one.refused,
        "unneeded": unneeded.has(one.host),
        "bytes_in": one.bytes_in,
        "bytes_out": one.bytes_out,
        "first": one.first,
        "last": one.last,
        "last_refused": one.last_refused or None,
        "reason": one.reason or None,
        "requests": [_row(*row) for row in fold(one.requests)],
        "refused_requests": [_row(*row) for row in fold(one.refused_requests)],
    }


def fold(requests: Counter[tuple[str, str]]) -> list[tuple[str, str, int]]:
    """Method, pattern of paths and how often, the most frequent first. The guest's words are cleaned."""
    by_method: dict[str, Counter[str]] = {}
    for (method, path), count in requests.items():
        by_method.setdefault(method, Counter())[path] += count
    found = []
    for method, paths in by_method.items():
        [one] = conditions_for(((method, path) for path in paths), ())
        patterns = one.paths or (next(iter(paths)) if len(paths) == 1 else "/**",)
        left = Counter(paths)
        for pattern in sorted(patterns, key=lambda text: "*" in text):
            matching = [path for path in left if len(patterns) == 1 or matches(pattern, path)]
            found.append((clean_line(method), clean_line(pattern), sum(left.pop(path) for path in matching)))
    return sorted((row for row in found if row[2]), key=lambda row: (-row[2], row))


def _folded(requests: Counter[tuple[str, str]]) -> Iterator[str]:
    rows = fold(requests)
    for method, pattern, count in rows[:MOST_LINES]:
        yield f"{method} {pattern} ({count})"
    if len(rows) > MOST_LINES:
        yield f"... and {len(rows) - MOST_LINES} more"


def _row(method: str, path: str, count: int) -> dict[str, Any]:
    return {"method": method, "path": path, "count": count}


def _host(one: Traffic) -> str:
    return cut(clean_line(one.name), 60)


def _numbers(one: Traffic) -> tuple[str, ...]:
    return str(one.allowed + one.failed), str(one.failed or "-"), size(one.bytes_in), size(one.bytes_out)


def _clock(time: str) -> str:
    """`2026-11-23T13:59:41.254Z` as `11-23 13:59:41`."""
    return clean_line(time[5:19].replace("T", " "))
