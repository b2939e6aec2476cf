"""Which accelerators are tried, and what is remembered about it."""

from __future__ import annotations

import json
import platform
from pathlib import Path

import pytest

from engine.build import accelerator
from engine.build.accelerator import Attempt, Verdict, candidates, verdict_key

FAILED = Attempt("kvm", "qemu -accel kvm", False, "no guest was running after 15 s", 15.0, "Probing EDD")
BOOTED = Attempt("tcg", "qemu -accel tcg", True, "booted", 3.1, accelerator.MARKER)


def test_a_verdict_survives_json() -> None:
    verdict = Verdict("tcg", (FAILED, BOOTED))
    assert Verdict.from_json(json.loads(json.dumps(verdict.to_json()))) == verdict


@pytest.mark.parametrize("plain", [None, [], {}, {"accelerator": "warp", "attempts": []}, {"attempts": [{"x": 1}]}])
def test_anything_else_is_no_verdict(plain: object) -> None:
    with pytest.raises(ValueError):
        Verdict.from_json(plain)


def test_emulation_is_always_the_last_resort(tmp_path: Path) -> None:
    device = tmp_path / "kvm"
    assert candidates("linux", device) == ("tcg",)
    device.touch()
    assert candidates("linux", device) == ("kvm", "tcg")
    assert candidates("darwin", device) == ("hvf", "tcg")
    assert candidates("win32", device) == ("tcg",)


def test_the_key_follows_what_can_change_the_verdict(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(accelerator, "KVM", tmp_path / "kvm")
    keys = {verdict_key("toolchain-1")[0], verdict_key("toolchain-2")[0]}
    assert verdict_key("toolchain-1")[0] in keys
    (tmp_path / "kvm").touch()
    keys.add(verdict_key("toolchain-1")[0])
    monkeypatch.setattr(platform, "release", lambda: "99.9")
    keys.add(verdict_key("toolchain-1")[0])
    assert len(keys) == 4


def test_the_last_line_of_a_console_has_no_control_characters(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(b"first\r\n\x1b[2JProbing EDD\xff...\r\n\r\n")
    assert accelerator._last_line(log) == "[2JProbing EDD\ufffd..."
    assert accelerator._last_line(tmp_path / "none") == ""
