"""Who owns what on either side of a mount, and what virtiofsd may do."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import pytest

from vmm.virtiofs import SharedDirectory, host_owner, virtiofsd_arguments

SHARED = SharedDirectory(Path("/home/me/my project"), "mount0")
PLACE = Path("/run/user/1/a name/mount-0")


def test_the_whole_command_line_of_an_ordinary_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1001)
    words = virtiofsd_arguments(SHARED, PLACE, 7, uid=1001, gid=100)
    assert words == [
        *("--shared-dir", "/run/user/1/a name/mount-0", "--fd", "7", "--cache", "auto", "--log-level", "error"),
        *("--translate-uid", "squash-guest:0:1001:4294967295", "--translate-uid", "host:1001:1000:1"),
        *("--translate-gid", "squash-guest:0:100:4294967295", "--translate-gid", "host:100:1000:1"),
        *("--sandbox", "none", "--inode-file-handles=never"),
    ]


def test_root_is_put_into_a_chroot(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    words = virtiofsd_arguments(SHARED, PLACE, 7, uid=0, gid=0)
    assert words[words.index("--sandbox") + 1] == "chroot"


def test_read_only_is_enforced_on_this_side() -> None:
    plain = virtiofsd_arguments(SHARED, PLACE, 7, uid=1, gid=1)
    read_only = virtiofsd_arguments(dataclasses.replace(SHARED, read_only=True), PLACE, 7, uid=1, gid=1)
    assert read_only == [*plain, "--readonly"]


def test_files_belong_to_the_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1001)
    assert host_owner(tmp_path / "whatever") == (os.getuid(), os.getgid())


def test_files_that_root_shares_belong_to_the_directorys_owner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    seen = tmp_path.stat()
    assert host_owner(tmp_path) == (seen.st_uid, seen.st_gid)
