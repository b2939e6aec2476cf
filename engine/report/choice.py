"""Choosing the reporter for a stream."""

from __future__ import annotations

from typing import TextIO

from engine.report.lines import JsonReporter, PlainReporter, QuietReporter
from engine.report.reporter import Mode, Reporter


def make_reporter(stream: TextIO, mode: Mode = "auto") -> Reporter:
    """The reporter for `mode`. `auto` is a live display on a terminal, and plain lines elsewhere."""
    if mode == "json":
        return JsonReporter(stream)
    if mode == "quiet":
        return QuietReporter(stream)
    if mode == "auto" and stream.isatty():
        from engine.report.live import LiveReporter

        return LiveReporter(stream)
    return PlainReporter(stream)
