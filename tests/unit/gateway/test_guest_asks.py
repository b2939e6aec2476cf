"""What a guest may say when it asks for a name: bounded in size, number, rate and characters."""

from __future__ import annotations

from urllib.parse import quote, urlencode

import pytest

from engine.gateway.guest_asks import BURST, EVERY_S, MOST, WHY, GuestAsks, Heard
from engine.gateway.policy import Policy
from engine.gateway.rules import Rule

NONE = Policy(())


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def asks(clock: Clock) -> GuestAsks:
    return GuestAsks(clock)


def hear(asks: GuestAsks, policy: Policy = NONE, **said: object) -> Heard:
    return asks.hear("POST", f"/?{urlencode(said)}", policy)


def test_an_ask_waits_until_a_rule_speaks_of_its_name(asks: GuestAsks) -> None:
    changes: list[int] = []
    asks.on_change = lambda: changes.append(len(asks.open))
    heard = hear(asks, host="New.Example.COM.", why="its API")
    assert heard.status == 202 and heard.ask is not None
    (one,) = asks.open
    assert (one.host, one.port, one.why, one.name) == ("new.example.com", 443, "its API", "new.example.com")
    assert hear(asks, host="new.example.com", why="again").status == 202
    assert [ask.why for ask in asks.open] == ["again"] and asks.open[0].since == one.since
    asks.review(Policy((Rule("other.example.com"),)))
    assert asks.open and asks.outcome(one, NONE) is None
    asks.review(Policy((Rule("new.example.com", deny=True),)))
    assert asks.open == () and changes == [1, 1, 0]


def test_what_is_decided_is_answered_at_once(asks: GuestAsks) -> None:
    policy = Policy((Rule("a.example.com"), Rule("b.example.com", deny=True)))
    assert hear(asks, policy, host="a.example.com").status == 200
    assert hear(asks, policy, host="b.example.com").status == 403
    assert asks.open == ()


@pytest.mark.parametrize(
    "said",
    [
        {"host": ""},
        {"host": "localhost"},
        {"host": "db"},
        {"host": "x.localhost"},
        {"host": "ask.sandbox.invalid"},
        {"host": "127.0.0.1"},
        {"host": "0x7f.1"},
        {"host": "a.example.com/x"},
        {"host": "a.example.com\n"},
        {"host": "*.example.com"},
        {"host": "a.example.com", "port": 0},
        {"host": "a.example.com", "port": 65536},
        {"host": "a.example.com", "port": "²"},
        {"host": "a.example.com", "port": "-1"},
        {"host": "a.example.com", "a": 1, "b": 2, "c": 3},
        {"host": "a.example.com", "why": "x" * 5000},
    ],
)
def test_what_is_no_ask(asks: GuestAsks, said: dict[str, object]) -> None:
    assert hear(asks, **said).status == 400 and asks.open == ()


def test_only_one_form_of_request(asks: GuestAsks) -> None:
    assert asks.hear("GET", "/?host=a.example.com", NONE).status == 400
    assert asks.hear("POST", "/x?host=a.example.com", NONE).status == 400
    assert asks.hear("POST", "/", NONE).status == 400


def test_its_words_steer_no_terminal_and_are_short(asks: GuestAsks) -> None:
    bad = "\x1b]2;title\x07\x1b[31mred\x1b[0m\r\nnext\u202eback\u2066\x9b"
    heard = asks.hear("POST", f"/?host=a.example.com&why={quote(bad)}", NONE)
    assert heard.ask is not None and heard.ask.why.isprintable() and "red" not in heard.ask.why.partition("next")[0]
    heard = asks.hear("POST", f"/?host=b.example.com&why={quote('é' * 300)}", NONE)
    assert heard.ask is not None and len(heard.ask.why) == WHY
    heard = asks.hear("POST", "/?host=c.example.com&why=%ff%fe", NONE)
    assert heard.ask is not None
    assert asks.hear("POST", f"/?host={quote(bad)}", NONE).text.isprintable()


def test_it_is_heard_seldom(asks: GuestAsks, clock: Clock) -> None:
    statuses = [hear(asks, host=f"h{n}.example.com").status for n in range(BURST + 3)]
    assert statuses == [202] * BURST + [429] * 3
    clock.now += EVERY_S
    assert hear(asks, host="later.example.com").status == 202
    assert hear(asks, host="later.example.com").status == 429


def test_only_so_many_wait(asks: GuestAsks, clock: Clock) -> None:
    for n in range(MOST):
        clock.now += EVERY_S
        assert hear(asks, host=f"h{n}.example.com").status == 202
    clock.now += 2 * EVERY_S
    assert hear(asks, host="more.example.com").status == 429 and len(asks.open) == MOST
    assert hear(asks, host="h0.example.com").status == 202, "of those that wait it may say more"
