from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest

from vmm.channel.copy import copy_in, copy_out
from vmm.channel.errors import GuestError

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="the guest's tar runs as root")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    tree = tmp_path / "tree"
    (tree / "sub").mkdir(parents=True)
    (tree / "sub" / "data").write_bytes(os.urandom(3_000_000))
    (tree / "run").write_text("#!/bin/sh\n")
    (tree / "run").chmod(0o750)
    (tree / "link").symlink_to("sub/data")
    os.utime(tree / "run", (1e9, 1e9))
    return tree


def listing(root: Path) -> dict[str, Any]:
    return {
        str(path.relative_to(root)): (
            path.readlink() if path.is_symlink() else path.read_bytes() if path.is_file() else None,
            path.lstat().st_mode,
            round(path.lstat().st_mtime, 4) if path.is_file() and not path.is_symlink() else 0,
        )
        for path in root.rglob("*")
    }


def test_both_ways(harness: Any, tree: Path, tmp_path: Path) -> None:
    guest, back = tmp_path / "guest", tmp_path / "back"
    guest.mkdir()
    back.mkdir()

    async def scenario() -> None:
        async with harness.start_client() as (_, client):
            await copy_in(client, tree, str(guest))  # into an existing directory
            assert listing(guest / "tree") == listing(tree)
            assert {path.lstat().st_uid for path in (guest / "tree").rglob("*")} == {1000}
            await copy_in(client, tree, str(guest / "renamed"))  # as a new name
            assert listing(guest / "renamed") == listing(tree)
            (guest / "flat").mkdir()
            await copy_in(client, f"{tree}/.", str(guest / "flat"))  # its contents
            assert listing(guest / "flat") == listing(tree)
            await copy_in(client, tree / "run", str(guest / "program"))
            assert (guest / "program").stat().st_mode & 0o777 == 0o750
            await copy_in(client, tree / "run", str(guest))
            assert (guest / "run").read_text() == "#!/bin/sh\n"

            copied = await copy_out(client, str(guest / "tree"), back)
            assert (copied.files, copied.skipped) == (2, ())
            assert listing(back / "tree") == listing(tree)
            await copy_out(client, str(guest / "tree"), back / "renamed")
            assert listing(back / "renamed") == listing(tree)
            (back / "flat").mkdir()
            await copy_out(client, f"{guest}/tree/.", back / "flat")
            assert listing(back / "flat") == listing(tree)
            await copy_out(client, str(guest / "program"), back / "one")
            assert (back / "one").read_text() == "#!/bin/sh\n"
            assert (back / "one").stat().st_uid == os.geteuid()

    asyncio.run(scenario())


def test_wrong_places(harness: Any, tree: Path, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with harness.start_client() as (_, client):
            for src, dst, words in (
                (tmp_path / "none", str(tmp_path), "no such file"),
                (tree, str(tree / "run"), "not a directory"),
                (tree / "run", str(tmp_path / "none") + "/", "no such directory"),
                (tree / "run", str(tmp_path / "none" / "x"), "no such directory"),
                (tree, "relative", "must be absolute"),
                (tree, "/proc/new", "could not be written in the guest"),
            ):
                with pytest.raises(GuestError, match=words):
                    await copy_in(client, src, dst)
            for source, target, words in (
                (str(tmp_path / "none"), tmp_path, "no such file"),
                (str(tree), tree / "run", "not a directory"),
                (str(tree), tmp_path / "none" / "x", "no such directory"),
            ):
                with pytest.raises(GuestError, match=words):
                    await copy_out(client, source, target)

    asyncio.run(scenario())


def test_a_full_or_endless_copy_can_be_given_up(harness: Any, tmp_path: Path) -> None:
    big = tmp_path / "big"
    with big.open("wb") as file:
        file.truncate(1 << 40)

    async def scenario() -> None:
        async with harness.start_client() as (guestd, client):
            with pytest.raises(GuestError, match="larger than"):
                await copy_out(client, str(big), tmp_path / "copy", limit=1_000_000)
            os.mkfifo(tmp_path / "target")
            copying = asyncio.create_task(copy_out(client, str(big), tmp_path / "copy"))
            await harness.wait_until(lambda: (tmp_path / "copy").exists() and (tmp_path / "copy").stat().st_size > 0)
            copying.cancel()
            with pytest.raises(asyncio.CancelledError):
                await copying
            assert (await client.call("ping", 20))["protocol"]
            assert guestd.peak_memory() < 80_000_000

    asyncio.run(scenario())


def test_a_cancelled_copy_into_the_guest_reads_no_further(harness: Any, tmp_path: Path) -> None:
    big = tmp_path / "big"
    with big.open("wb") as file:
        file.truncate(1 << 40)  # to read all of it takes a quarter of an hour
    target = tmp_path / "target"

    async def scenario() -> None:
        async with harness.start_client() as (_, client):
            copying = asyncio.create_task(copy_in(client, big, str(target)))
            await harness.wait_until(lambda: target.exists() and target.stat().st_size > 0)
            copying.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asyncio.wait_for(copying, 20)
            target.unlink(missing_ok=True)

    asyncio.run(scenario())


def broken_tar(client: Any, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on the guest's tar ends at once."""
    directory.mkdir()
    (directory / "tar").write_text("#!/bin/sh\necho out of order >&2\nexit 2\n")
    (directory / "tar").chmod(0o755)
    opened, path = client.open_exec, f"{directory}:/usr/bin:/bin"
    monkeypatch.setattr(client, "open_exec", lambda argv, **options: opened(argv, env={"PATH": path}, **options))


def test_a_tree_is_not_read_on_for_a_tar_that_has_ended(
    harness: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    big = tmp_path / "big"
    with big.open("wb") as file:
        file.truncate(1 << 40)

    async def scenario() -> None:
        async with harness.start_client() as (_, client):
            broken_tar(client, tmp_path / "programs", monkeypatch)
            with pytest.raises(GuestError, match="could not be written in the guest") as caught:
                await asyncio.wait_for(copy_in(client, big, str(tmp_path / "new")), 20)
            assert caught.value.details == "out of order"

    asyncio.run(scenario())


def test_the_guests_tar_says_why_there_is_no_archive(
    harness: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").write_text("x")

    async def scenario() -> None:
        async with harness.start_client() as (_, client):
            broken_tar(client, tmp_path / "programs", monkeypatch)
            with pytest.raises(GuestError, match="could not be read in the guest") as caught:
                await copy_out(client, str(tmp_path / "here"), tmp_path / "out")
            assert caught.value.details == "out of order"

    asyncio.run(scenario())
