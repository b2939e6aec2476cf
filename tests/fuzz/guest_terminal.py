"""What a guest prints at a terminal of this host: raw, with a title of ours between; and as words that we show."""

from __future__ import annotations

import io
import re
import unicodedata
from contextlib import redirect_stdout
from unittest.mock import patch

from engine.cli.commands.diff import show_diff
from engine.report.text import LINE_MAX, clean_line
from sandboxfile.diagnostics import printable
from vmm.channel.detach_keys import HELD, KeyWatch
from vmm.channel.screen import Screen
from vmm.channel.title import LONGEST, SHOWN, Title
from vmm.guest.guestd.modes import HELD_FRAME, Modes

OURS = "shop asks \x1b[31mfor\x07 a \u202ehost"
ASKS = "".join(letter for letter in OURS if letter.isprintable()).encode()
KEYS = b"\x10\x11"
# A whole sequence, as the terminal's own state machine would read it: by its first two letters.
_WHOLE = (
    re.compile(rb"\x1b\[[0-?]*[ -/]*[@-~]"),
    re.compile(rb"\x1b\][^\x07\x1b]*(\x07|\x1b\\)"),
    re.compile(rb"\x1b[PX^_].*?\x1b\\", re.DOTALL),
    re.compile(rb"\x1b[ -/]*[0-OQ-WYZ`-~]"),
)
_HALF = (
    re.compile(rb"\x1b\[[0-?]*[ -/]*"),
    re.compile(rb"\x1b\][^\x07\x1b]*\x1b?"),
    re.compile(rb"\x1b[PX^_].*", re.DOTALL),
    re.compile(rb"\x1b[ -/]*"),
)
_LETTER = re.compile(rb"[\xc2-\xdf]|[\xe0-\xef][\x80-\xbf]?|[\xf0-\xf4][\x80-\xbf]{0,2}")


def slow_titles(data: bytes) -> tuple[list[bytes], bool]:
    """The titles that were set, and whether the data ends between two sequences."""
    titles, at = [], 0
    while at < len(data):
        if data[at] != 0x1B:
            if _LETTER.fullmatch(data, at):
                return titles, False
            at += 1
            continue
        whole = next((found for pattern in _WHOLE if (found := pattern.match(data, at))), None)
        if whole is None and any(pattern.fullmatch(data, at) for pattern in _HALF):
            return titles, False
        if whole and (title := re.match(rb"\x1b\][02];([^\x07\x1b]*)", whole[0])):
            titles.append(title[1])
        at = whole.end() if whole else at + 1
    return titles, True


def title(data: bytes) -> None:
    """Our title is written between two sequences, and the program's own comes back, in whatever pieces it came."""
    if len(data) > LONGEST:
        data = data[:LONGEST]
    seen = []
    for size in (len(data) or 1, 1, 5):
        one = Title()
        for at in range(0, len(data), size):
            one.saw(data[at : at + size])
            assert len(one._rest) <= LONGEST
        seen.append((one._rest, one._long, one._own, one.show(OURS), one.end()))
    assert seen[0] == seen[1] == seen[2], "pieces change it"
    titles, between = slow_titles(data)
    *_, own, shown, ended = seen[0]
    assert own == (titles[-1] if titles else None), f"its title is {titles[-1:]}, and not {own!r}"
    assert bool(shown) is between, "a title is written within a sequence" if shown else "no title is written"
    if shown:
        assert shown == b"\x1b[22;2t\x1b]2;" + ASKS[:SHOWN] + b"\x07"
        assert ended == b"\x1b[23;2t" + (b"\x1b]2;%s\x07" % own if own is not None else b"")


_SEQUENCES = re.compile(rb"(?:\x1b\[\?[0-9]+[hl]|\x1b\[[<>][0-9]+u|\x1b\[>4(?:;[0-9])?m|\x1b[=>78]|\x1b\[r)*")


def modes(data: bytes) -> None:
    """What is switched off is all that was on, and nothing but modes; what is switched on elsewhere is the same."""
    seen = []
    for size in (len(data) or 1, 1, 7):
        one = Screen()
        for at in range(0, len(data), size):
            one.saw(data[at : at + size])
        assert len(one._rest) <= 64
        seen.append((one.is_alternate, one.on(), one))
    assert seen[0][:2] == seen[1][:2] == seen[2][:2], "pieces change it"
    on, one = seen[0][1], seen[0][2]
    held = HELD_FRAME in one._on
    off = one.off()
    assert _SEQUENCES.fullmatch(on) and _SEQUENCES.fullmatch(off), "it says more than modes"
    assert len(on) < 2000 and len(off) < 2000 and one.off() == one.on() == b""
    other = Modes()
    other.saw(on)
    assert other.on() == on and (held or len(other.off()) <= len(off))
    again = Modes()
    again.saw(on + off)
    assert again.on() == b"", "something stays on"


def keys(data: bytes) -> None:
    """What a terminal sends comes to the program, in its order, but for the keys themselves."""
    size, data = (data[0] or 1, data[1:]) if data else (1, b"")
    watch, passed, pressed, at = KeyWatch(KEYS), b"", False, 0
    while at < len(data) and not pressed:
        more, pressed = watch.feed(data[at : at + size])
        passed, at = passed + more, at + size
        held = b"".join(token for _, token in watch._held)
        assert data.startswith(passed), "it changes what is typed"
        assert len(held) <= HELD + size and (pressed or passed + held == data[:at])
    if pressed:
        left = data[len(passed) : at]
        assert re.search(rb"\x10|p|112", left) and re.search(rb"\x11|q|113", left), f"nobody pressed the keys: {left!r}"


# Words

OUT = io.StringIO()  # one for all: click never forgets a stream that it has written to


def shown(data: bytes) -> None:
    """No words of a guest steer a terminal, or hide there."""
    for text in (
        data.decode(errors="replace"),
        data.decode(errors="surrogateescape"),
        data.decode("utf-16", "replace"),
    ):
        line = clean_line(text)
        assert len(line) <= LINE_MAX and _harmless(line), f"{line!r} is shown"
        assert clean_line(line) == line.rstrip("\r\n"), "what is clean is cleaned once more"
        escaped = printable(text)
        assert escaped.isprintable() and (escaped == text or not text.isprintable())
        OUT.seek(0)
        OUT.truncate()
        with redirect_stdout(OUT), patch("click.utils.should_strip_ansi", lambda *_: True):
            show_diff(text)
        assert all(letter in "\n\t" or letter.isprintable() for letter in OUT.getvalue())
        assert OUT.getvalue().count("\n") == text.removesuffix("\n").count("\n") + 1, "a line becomes two"


def _harmless(line: str) -> bool:
    return not any(
        unicodedata.category(letter) in ("Cc", "Cs", "Zl", "Zp")
        or unicodedata.bidirectional(letter) in ("LRE", "RLE", "PDF", "LRO", "RLO", "LRI", "RLI", "FSI", "PDI")
        or 0xE0000 <= ord(letter) < 0xE0080  # tags, which repeat ASCII unseen
        for letter in line
    )


TITLE_SEEDS = (
    b"\x1b]0;first\x07text\x1b]2;second\x1b\\\x1b[1;31mred\xe2\x94\x80\x1b(B",
    b"\x1bPq#0;2;0;0;0\x1b\\\x1b_x\x07y\x1b\\\x1b]2;half",
    b"\x1b]0;a\x1b[mb\x07\xf0\x9f\x98",
    b"\x1b\x05[\x1b[3\n1m\x1b[?25",
)
MODE_SEEDS = (
    b"\x1b[?1049h\x1b[?25l\x1b[?1;2004;1006h\x1b[>1u\x1b[>4;2m\x1b=",
    b"\x1b[?2026h\x1b[2;9r\x1b[=5u\x1b[>31u\x1b[?47h\x1b[>7u\x1b[<2u\x1b[?47l",
    b"\x1b[?1000h\x1bc\x1b[?9h\x1b[?1000l\x1b[>4m\x1b>\x1b[r",
)
KEY_SEEDS = (
    b"\x01ls\r\x10\x11",
    b"\x40\x10\x1b[112;5u\x1b[113;5u",
    b"\x08\x1b[200~\x10\x11\x1b[201~\x1b[27;5;112~\x1b[57442u\x1b[27;5;113~",
    b"\x05\x10x\x11\x10\x10\x11",
)
SHOWN_SEEDS = (
    b"\x1b[31mred\x1b[0m \x1b]0;title\x07 10%\r20%\tend\r\n",
    b"\x9b31m \xc2\x9b31m \xe2\x80\xaeright \xe2\x81\xa6 \xed\xb2\x80 \xff",
    b"diff --git a/x b/x\n--- a/x\n+++ b/x\n@@ -1 +1 @@\n-\x1b[A\n+\tb\r\n",
    "\u202e\u2028\U000e0041\ufeff".encode("utf-16"),
)
_SIGNS = b"\x1b[ \x1b] \x1bP \x1b\\ \x07 \x1b]2; \x1b[?1049h \x1b[>1u \x1b[<9u \x1bc \x10 \x11 \x1b[200~ \x1b[201~"
TERMINAL_WORDS = (
    *_SIGNS.split(b" "),
    *(letter.encode() for letter in "\x85\u200b\u202e\u2028\ufeff\U000e0041"),
)
