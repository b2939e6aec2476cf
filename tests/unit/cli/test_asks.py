"""What a file asks for, as a person reads it before answering."""

from __future__ import annotations

from engine.cli.showing.asks import MOST, render
from engine.trust.asks import Ask

SHOP = Ask("directory", "/src/shop", "rw", "this project, as /workspace")
DOCS = Ask("directory", "/src/documents", "ro", "OUTSIDE, as /docs")
HOME = Ask("directory", "/home/me", "clone", "OUTSIDE, as /h", "this is your home directory")
TOKEN = Ask("secret", "variable GH_TOKEN", "api.example.com", "called github")
PORT = Ask("port", "80", "", "for port 8080", "careful")
FREE = Ask("port", "any free port", "for port 9000")


def test_groups_with_what_is_closest_to_look_at_last() -> None:
    asks = (FREE, PORT, HOME, DOCS, SHOP, TOKEN)
    assert render(asks, frozenset(asks)).splitlines() == [
        "  ports of this host's loopback address",
        "     any free port  for port 9000",
        "     80             for port 8080",
        "  directories of this host",
        "     /home/me        as a copy             OUTSIDE, as /h",
        "     /src/documents  live, read only       OUTSIDE, as /docs",
        "     /src/shop       live, read and write  this project, as /workspace",
        "  secrets, which leave for a host",
        "     variable GH_TOKEN  to api.example.com  called github",
        "  look closely at",
        "   ! port 80: careful",
        "   ! /home/me: this is your home directory",
    ]


def test_what_is_new_is_marked_and_comes_first() -> None:
    assert render((DOCS, SHOP), frozenset({SHOP})).splitlines() == [
        "  directories of this host",
        "   + /src/shop       live, read and write  this project, as /workspace",
        "     /src/documents  live, read only       OUTSIDE, as /docs",
    ]
    # Nothing is marked where everything is the same: all new, or nothing.
    assert "+" not in render((DOCS, SHOP), frozenset({SHOP, DOCS})) + render((DOCS, SHOP), frozenset())


def test_ports_without_a_gap_are_one_line() -> None:
    asks = [Ask("port", str(number), "", "x") for number in (1, 8000, 8001, 8002, 9000, 9001)]
    assert render(asks, frozenset(asks)).splitlines()[1:] == [
        "     1             x",
        "     8000 to 8002  3 ports",
        "     9000          x",
        "     9001          x",
    ]
    marked = render(asks, frozenset(asks[3:])).splitlines()[1:]
    assert [line[3:].split("  x")[0].strip() for line in marked] == ["+ 8002", "+ 9000", "+ 9001", "1", "8000", "8001"]


def test_names_stay_on_their_line_and_steer_no_terminal() -> None:
    names = (
        "/a\x1b[2J\x1b]0;owned\x07",
        "/b\nAllow this? [y/N]: y",
        "/c\u202e/evil",
        "/d\r/safe",
        "/e\x9b1A",
        "/f\udcff",
    )
    asks = [Ask("directory", name, "rw", f"as {name}", f"about {name}") for name in names]
    text = render(asks, frozenset(asks))
    assert all(char == "\n" or char.isprintable() for char in text)
    assert len(text.splitlines()) == 2 + 2 * len(names)
    for shown in (
        r"/a\x1b[2J\x1b]0;owned\x07",
        r"/b\x0aAllow",
        r"/c\u202e/evil",
        r"/d\x0d/safe",
        r"/e\x9b1A",
        r"/f\udcff",
    ):
        assert shown in text


def test_a_flood_hides_nothing_that_matters() -> None:
    flood = [Ask("wildcard", f"*.d{number:04}.example", "", "", "careful") for number in range(1000)]
    asks = [*flood, HOME]
    lines = render(asks, frozenset(asks), MOST).splitlines()
    assert len(lines) < 3 * MOST
    assert lines[-1] == "   ! /home/me: this is your home directory"
    assert f"     ... and {1000 - MOST} more; `sandbox trust show` lists all" in lines
    assert f"     ... {1001 - MOST} more of these" in lines
    assert len(render(asks, frozenset(asks)).splitlines()) == 1 + 1000 + 2 + 1 + 1001
