"""How long a guest has to answer: on a busy host it gets a small share of the processors."""

from __future__ import annotations

import os

import pytest

from engine.guest.guest import BUSIEST, BUSY, HELLO_S, hello_s


@pytest.mark.parametrize(("load", "times"), [(0.0, 1.0), (BUSY, 1.0), (2 * BUSY, 2.0), (100.0, BUSIEST)])
def test_a_guest_on_a_busy_host_has_more_time(load: float, times: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    monkeypatch.setattr(os, "getloadavg", lambda: (4 * load, 0.0, 0.0))
    assert hello_s() == pytest.approx(times * HELLO_S)
