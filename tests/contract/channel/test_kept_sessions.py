"""What is kept of an agent for the next sandbox of its name, with a real guestd and its tar."""

from __future__ import annotations

import asyncio
import io
import os
import pwd
import tarfile
from pathlib import Path
from typing import Any

import pytest

from engine.lifecycle.down import forget_kept
from engine.state.instances import Instance, Keeps, save_instance
from engine.state.layout import Layout
from engine.supervisor import keeping
from engine.supervisor.keeping import Keeper


@pytest.fixture
def layout() -> Layout:
    return Layout.from_environment(os.environ)


def home(directory: Path, **files: str) -> Path:
    """With a session in it, and a credential beside it."""
    for name, text in {".claude/projects/w/a.jsonl": "{}\n", ".claude/.credentials.json": "hush", **files}.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return directory


def keeper(layout: Layout, project: Path, channel: Any, where: Path) -> Keeper:
    me = pwd.getpwuid(os.geteuid()).pw_name
    keeps = Keeps(str(where), me, [".bash_history", ".claude/projects", ".not-there"])
    record = Instance(
        "shop", str(project), str(project / "f"), "0", "2026-01-01T00:00:00+00:00", "running", keeps=keeps
    )
    layout.instance("shop").directory.mkdir(parents=True, exist_ok=True)
    save_instance(layout, record)
    return Keeper(layout, record, channel)


def kept(layout: Layout, project: Path) -> list[str]:
    with tarfile.open(layout.project_kept(project, "shop")) as tar:
        return tar.getnames()


def test_sessions_are_there_again_and_nothing_else(harness: Any, layout: Layout, tmp_path: Path) -> None:
    old, new = home(tmp_path / "old"), tmp_path / "new"
    (old / ".claude/projects/w/a.jsonl").chmod(0o600)
    (old / ".claude/projects/link").symlink_to("/etc/passwd")
    os.mkfifo(old / ".claude/projects/pipe")
    new.mkdir()

    async def scenario() -> None:
        async with harness.start_guestd() as guestd:
            assert await keeper(layout, tmp_path, guestd.channel, old).save() is None
            assert await keeper(layout, tmp_path, guestd.channel, new).restore() is None

    asyncio.run(scenario())
    assert kept(layout, tmp_path) == [".claude/projects", ".claude/projects/w", ".claude/projects/w/a.jsonl"]
    path = new / ".claude/projects/w/a.jsonl"
    assert path.read_text() == "{}\n" and path.stat().st_mode & 0o777 == 0o600
    assert path.stat().st_uid == os.geteuid()
    assert not (new / ".claude/.credentials.json").exists() and not (new / ".claude/projects/link").exists()
    assert layout.project_kept(tmp_path, "shop").stat().st_mode & 0o777 == 0o600
    assert forget_kept(layout, tmp_path) == ["shop"] and forget_kept(layout, tmp_path) == []


def test_a_save_that_fails_leaves_the_last_one(
    harness: Any, layout: Layout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    where = home(tmp_path / "home")

    async def scenario() -> None:
        async with harness.start_guestd() as guestd:
            one = keeper(layout, tmp_path, guestd.channel, where)
            assert await one.save() is None
            before = layout.project_kept(tmp_path, "shop").read_bytes()
            (where / ".bash_history").write_text("x" * 5000)
            with monkeypatch.context() as patch:
                patch.setattr(keeping, "LIMIT", 1000)
                assert "1000 bytes" in str(await one.save())
            with monkeypatch.context() as patch:
                patch.setattr(keeping, "_PACK", "exec sleep 1000")
                patch.setattr(keeping, "SAVE_S", 0.2)
                assert "longer than 0.2 s" in str(await one.save())
            with monkeypatch.context() as patch:
                patch.setattr(keeping, "_PACK", "head -c 700 /dev/zero")
                assert await one.save() is not None
            assert layout.project_kept(tmp_path, "shop").read_bytes() == before
            assert not list(layout.project_kept(tmp_path, "shop").parent.glob("*.new"))
            assert await one.save() is None
            assert ".bash_history" in kept(layout, tmp_path)

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("../outside", tarfile.REGTYPE),
        (".claude/projects/link", tarfile.SYMTYPE),
        (".claude/projects/hard", tarfile.LNKTYPE),
        (".claude/projects/device", tarfile.CHRTYPE),
        (".ssh/authorized_keys", tarfile.REGTYPE),
    ],
)
def test_a_hostile_archive_is_not_unpacked(
    harness: Any, layout: Layout, tmp_path: Path, name: str, kind: bytes
) -> None:
    """As a guest would have it, if it could write there."""
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, "/etc/passwd"
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        tar.addfile(member)
    path = layout.project_kept(tmp_path, "shop")
    path.parent.mkdir(parents=True)
    path.write_bytes(buffer.getvalue())
    where = tmp_path / "home" / "agent"
    where.mkdir(parents=True)

    async def scenario() -> str | None:
        async with harness.start_guestd() as guestd:
            return await keeper(layout, tmp_path, guestd.channel, where).restore()

    assert asyncio.run(scenario()) is not None
    assert [path for path in (tmp_path / "home").rglob("*") if not path.is_dir()] == []


def test_nothing_is_kept_where_the_record_says_so(harness: Any, layout: Layout, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with harness.start_guestd() as guestd:
            one = keeper(layout, tmp_path, guestd.channel, home(tmp_path / "home"))
            record = Instance("shop", str(tmp_path), "f", "0", "2026-01-01T00:00:00+00:00", "running")
            save_instance(layout, record)
            assert await one.save() is None and await one.restore() is None
            assert await one.handle({}, None) == {"lost": None}

    asyncio.run(scenario())
    assert layout.all_kept(tmp_path) == []
