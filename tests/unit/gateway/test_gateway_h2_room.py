"""Who gets how much of the room for HTTP/2 connections, and who hears when there is more."""

from __future__ import annotations

from engine.gateway.h2room import Room


def test_nobody_gets_more_than_a_part_of_what_is_left_so_the_next_gets_some() -> None:
    room = Room(1 << 20)
    shares = [room.share() for _ in range(500)]
    for _ in range(20):  # again and again
        for share in shares:
            share.take(1 << 20)
    before = room.left
    assert 0 < before < 1 << 16  # nearly all is taken
    got = room.share().take(1 << 20)
    assert got == before // 8
    for share in shares:
        share.end()
    assert room.left == (1 << 20) - got


def test_a_share_that_has_ended_gets_nothing_and_returns_nothing_twice() -> None:
    room = Room(1 << 20)
    share = room.share()
    assert share.take(1000) == 1000
    share.give(400)
    share.end()
    share.end()
    share.give(600)
    assert (share.take(1), share.add(1), room.left) == (0, 0, 1 << 20)


def test_those_who_wait_are_asked_once_when_enough_has_come_back() -> None:
    room = Room(1 << 20)
    share, asked = room.share(), list[str]()
    one, two = lambda: asked.append("one"), lambda: asked.append("two")
    room.wait(one)
    room.wait(one)
    room.wait(two)
    room.leave(two)
    share.take(1 << 16)
    share.give(1 << 12)
    assert asked == []
    share.give(1 << 12)
    assert asked == ["one"]
    share.end()
    assert asked == ["one"]
