"""How many streams may be cancelled: a flood ends a connection, what comes now and then does not."""

from __future__ import annotations

from engine.gateway.h2resets import Resets


def test_a_thousand_at_once_and_ten_a_second() -> None:
    now = 0.0
    resets = Resets(lambda: now)
    assert not any(resets.too_many() for _ in range(1000))
    assert resets.too_many()
    now += 1.0
    assert not any(resets.too_many() for _ in range(9))
    assert any(resets.too_many() for _ in range(3))


def test_any_number_over_hours() -> None:
    now = 0.0
    resets = Resets(lambda: now)
    for _ in range(10_000):
        now += 0.2
        assert not resets.too_many()


def test_a_long_silence_is_no_credit() -> None:
    now = 1e6
    resets = Resets(lambda: now)
    assert not resets.too_many()
    now += 1e6
    assert not any(resets.too_many() for _ in range(1000))
    assert resets.too_many()
