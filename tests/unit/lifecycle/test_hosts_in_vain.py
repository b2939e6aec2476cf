"""Which hosts a task has asked for in vain."""

from __future__ import annotations

from engine.lifecycle.task import hosts_in_vain


def test_a_connection_without_a_name_is_no_host() -> None:
    lines = [{"host": "a.example.com"}, {"host": None, "reason": "nothing came"}, {}, {"host": "a.example.com"}]
    assert hosts_in_vain(lines) == {"a.example.com"}
