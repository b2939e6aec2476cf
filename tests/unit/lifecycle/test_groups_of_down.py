"""The control groups that killed supervisors have left go with the next `down`, and no others."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.lifecycle import down
from engine.state.layout import Layout


def test_down_sweeps_the_groups_of_its_own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    swept: list[str] = []
    monkeypatch.setattr(down, "sweep", swept.append)
    ours, others = (Layout(tmp_path / "cache", tmp_path / name, tmp_path / "run") for name in ("state", "other"))
    down._forget_shared(ours)
    (prefix,) = swept
    assert ours.group("shop").startswith(prefix) and not others.group("shop").startswith(prefix)
    assert ours.group("shop") != ours.group("shop-2") and "/" not in ours.group("shop")
