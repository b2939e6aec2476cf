"""What people and programs see of a build; what a guest prints cannot take over their terminal."""

from __future__ import annotations

import io
import json
import os
import threading
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from engine.report.choice import make_reporter
from engine.report.live import LiveReporter
from engine.report.reporter import Mode, Reporter
from engine.report.text import LINE_MAX, TAIL_LINES, clean_line


class Terminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


def go(reporter: Reporter) -> None:
    """A short build with everything in it."""
    with reporter:
        reporter.note("plan\nof two")
        reporter.node_started("image", "Guest image")
        reporter.node_line("image", "\x1b[31mGet:1\x1b[0m")
        reporter.node_waiting("agent", "agent 1a2b3c is being built")
        reporter.node_finished("image", 12.34)
        reporter.node_started("setup", "npm ci")
        for number in range(40):
            reporter.node_line("setup", f"line {number}")
        reporter.node_failed("setup", "ended with 1", 3)
        reporter.node_skipped("ready", "skipped because setup failed")


def text_of(mode: Mode) -> str:
    stream = io.StringIO()
    go(make_reporter(stream, mode))
    return stream.getvalue()


def test_plain_lines_name_their_node() -> None:
    lines = text_of("auto").splitlines()
    assert lines[:7] == [
        "plan",
        "of two",
        "[image] Guest image ...",
        "[image] Get:1",
        "[agent] waiting: agent 1a2b3c is being built",
        "[image] done in 12.3 s",
        "[setup] npm ci ...",
    ]
    failure = lines.index("[setup] failed after 3.0 s: ended with 1")
    assert lines[failure + 1] == "[setup] its last lines:"
    assert lines[failure + 2 : -1] == [f"    line {number}" for number in range(40 - TAIL_LINES, 40)]
    assert lines[-1] == "[ready] skipped because setup failed"


def test_quiet_says_failures_only() -> None:
    lines = text_of("quiet").splitlines()
    assert lines[0] == "[setup] failed after 3.0 s: ended with 1"
    assert lines[-1] == "    line 39"
    assert len(lines) == TAIL_LINES + 2


def test_json_is_one_object_a_line() -> None:
    events = [json.loads(line) for line in text_of("json").splitlines()]
    assert events[0] == {"event": "note", "text": "plan\nof two"}
    assert events[1] == {"event": "started", "node": "image", "title": "Guest image"}
    assert events[2] == {"event": "line", "node": "image", "line": "Get:1"}
    assert events[4] == {"event": "finished", "node": "image", "seconds": 12.34}
    assert events[-2] == {"event": "failed", "node": "setup", "message": "ended with 1", "seconds": 3}


def live(width: int) -> tuple[LiveReporter, Terminal]:
    stream = Terminal()
    console = Console(file=stream, force_terminal=True, width=width, height=20, highlight=False, markup=False)
    return LiveReporter(stream, console), stream


def test_a_terminal_gets_the_live_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    stream = Terminal()
    reporter = make_reporter(stream)
    assert isinstance(reporter, LiveReporter)
    go(reporter)
    text = stream.getvalue()
    assert "✓" in text and "Guest image" in text and "12.3 s" in text
    assert "✗" in text and "    line 39" in text and "    line 9\n" not in text
    assert text.rstrip().endswith("\x1b[?25h") or "\x1b[?25h" in text  # the cursor is back


@pytest.mark.parametrize("width", [20, 80, 200])
def test_running_nodes_take_one_line_each_and_never_more(width: int) -> None:
    reporter, _ = live(width)
    with reporter:
        reporter.node_started("a", "界" * 60)
        reporter.node_started("b", "[bold]not markup[/bold]")
        reporter.node_line("a", "x" * 500)
        reporter.node_line("b", "[/nothing] 界" * 50)
        reporter.node_waiting("b", "b is being built by process 1")
        with reporter._console.capture() as capture:
            reporter._console.print(reporter._render())
    plain = [clean_line(line) for line in capture.get().splitlines()]
    assert len(plain) == 2
    assert all(cell_len(line) <= width for line in plain)
    if width == 200:
        assert "[bold]not markup[/bold]" in plain[1]
        assert "waiting: b is being built by process 1" in plain[1]


def test_the_live_reporter_survives_a_failure_inside() -> None:
    reporter, stream = live(80)
    with pytest.raises(ValueError, match="x"), reporter:
        reporter.node_started("a", "A")
        raise ValueError("x")
    assert "\x1b[?25h" in stream.getvalue()


def test_nodes_do_not_tear_each_others_lines() -> None:
    class Slow(io.StringIO):
        """Writes letter by letter, so that two writers would mix."""

        def write(self, text: str) -> int:
            for letter in text:
                super().write(letter)
                os.sched_yield()
            return len(text)

    stream = Slow()
    reporter = make_reporter(stream, "plain")

    def work(node: str) -> None:
        for _ in range(50):
            reporter.node_line(node, node * 20)

    threads = [threading.Thread(target=work, args=(letter,)) for letter in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(stream.getvalue().splitlines()) == {f"[{letter}] {letter * 20}" for letter in "abcd"}


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"),
        ("tab\tbed", "tab bed"),
        ("\x1b[1;31mred\x1b[0m", "red"),
        ("\x1b]0;title\x07after", "after"),
        ("\x1b]52;c;c3RlYWw=\x1b\\after", "after"),
        ("\x1b]8;;http://example.com\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x1b]0;never ended", ""),
        ("\x1b(Bascii", "ascii"),
        ("\x1b", ""),
        ("10%\r50%\r100%", "100%"),
        ("crlf\r\n", "crlf"),
        ("two\nlines", "two lines"),
        ("bell\x07 back\x08 nul\x00 c1\x9b31m", "bell back nul c131m"),
        ("left\u202eright\u2066x", "leftrightx"),
        ("lone \udc80 surrogate", "lone  surrogate"),
        ("é 界 ✓", "é 界 ✓"),
        ("x" * 10_000, "x" * LINE_MAX),
        ("a\U000e0068\U000e0069b\ufff9c\u180ed\u206ae", "abcde"),  # nobody sees them
    ],
)
def test_clean_line(text: str, shown: str) -> None:
    assert clean_line(text) == shown


@given(st.text(alphabet=st.one_of(st.characters(), st.sampled_from("\x1b[]\\0;m\x07\r\n\x9b")), max_size=60))
def test_nothing_dangerous_is_left(text: str) -> None:
    cleaned = clean_line(text)
    assert not {unicodedata.category(letter) for letter in cleaned} & {"Cc", "Cs"}
    assert not {unicodedata.bidirectional(letter) for letter in cleaned} & set(
        ["LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI"]
    )
    assert clean_line(cleaned) == cleaned
    cleaned.encode()


def test_a_stream_that_cannot_say_it_gets_question_marks() -> None:
    raw = io.BytesIO()
    with io.TextIOWrapper(raw, encoding="ascii") as stream:
        make_reporter(stream, "plain").node_line("a", "é")
        assert raw.getvalue() == b"[a] ?\n"


def test_plain_lines_are_without_the_noise_of_installers() -> None:
    noise = [
        "(Reading database ... 35%\r(Reading database ... 40%",
        "(Reading database ... 12345 files and directories currently installed.)",
        "Selecting previously unselected package jq.",
        "Preparing to unpack .../jq_1.7.1-6_amd64.deb ...",
        "Unpacking jq (1.7.1-6) ...",
        "Setting up jq (1.7.1-6) ...",
        "Processing triggers for libc-bin (2.41-12) ...",
        "Get:1 http://mirror.example/debian trixie/main amd64 jq amd64 1.7.1-6 [77.7 kB]",
        "#5 sha256:0123456789abcdef 1.05MB / 28.2MB 0.2s",
        " 0123456789ab Extracting [====>     ]  3.1MB/30MB",
        "     ━━━━━━━━━━━━━━━━━━━━ 1.2/1.2 MB 9.1 MB/s eta 0:00:00",
        "Downloading model 12%",
    ]
    told = ["E: Unable to locate package jqq", "#5 RUN make", "npm warn deprecated x", "0 upgraded, 1 newly installed"]
    stream = io.StringIO()
    reporter = make_reporter(stream, "plain")
    for line in [*noise, *told]:
        reporter.node_line("a", line)
    reporter.node_finished("a", 2.0)
    end = f"[a] done in 2.0 s, without {len(noise)} lines of unpacking and progress"
    assert stream.getvalue().splitlines() == [*(f"[a] {line}" for line in told), end]
    reporter.node_line("b", noise[2])
    reporter.node_failed("b", "broken", 1.0)
    assert noise[2] in stream.getvalue(), "what was left out may say why it failed"
