"""Bytes that arrive in any pieces, as lines."""

from __future__ import annotations

from vmm.lines import LONGEST_LINE, LineSplitter


def test_pieces_make_lines_and_blank_ones_are_left_out() -> None:
    text = "one\r\n\n  two  \n10 %\r20 %\rcafé \nend".encode()
    splitter = LineSplitter()
    lines = [line for byte in text for line in splitter.feed(bytes([byte]))]
    assert lines == ["one", "  two", "10 %", "20 %", "café"]
    assert splitter.unfinished == "end"
    assert splitter.close() == ["end"] and splitter.close() == []


def test_of_a_line_without_end_the_last_words_stay() -> None:
    splitter = LineSplitter()
    for _ in range(3):
        assert splitter.feed(b"x" * LONGEST_LINE) == []
    assert splitter.feed(b"end\n") == ["x" * (LONGEST_LINE - 3) + "end"]
    assert splitter.feed(b"\xff\n") == ["\ufffd"]
