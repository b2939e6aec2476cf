"""A full disk is told as one, however it shows; and what is not one is not."""

from __future__ import annotations

import asyncio
import errno
from pathlib import Path

import pytest

from engine.cache import disk_space as room
from engine.cache.disk_space import explain_full_disk, making, while_room
from engine.errors import EngineError
from vmm.process import ProcessError

NO_SPACE = "dpkg-deb: error: cannot copy archive data: No space left on device"


def free(monkeypatch: pytest.MonkeyPatch, *sizes: int) -> None:
    """The disk has these bytes free, one a look; the last stays."""
    left = list(sizes)
    monkeypatch.setattr(room, "free_bytes", lambda directory: left.pop(0) if len(left) > 1 else left[0])


def explain(tmp_path: Path, error: Exception) -> Exception:
    with pytest.raises(Exception) as caught:
        with explain_full_disk(tmp_path, tmp_path / "made"):
            raise error
    return caught.value


def another(cause: Exception) -> Exception:
    """The error as a package on the way has put it."""
    error = EngineError("the package could not be unpacked", details="its last words")
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "free_bytes"),
    [
        (OSError(errno.ENOSPC, "x"), 10**12),  # of a quota that statvfs does not know
        (another(OSError(errno.EDQUOT, "x")), 10**12),
        (another(ProcessError(["dpkg-deb"], 2, NO_SPACE)), 60_000_000),  # one large file, removed when it failed
        (another(RuntimeError("x")), 1_000_000),
    ],
)
def test_a_full_disk_is_called_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, free_bytes: int
) -> None:
    free(monkeypatch, free_bytes)
    told = explain(tmp_path, error)
    assert isinstance(told, EngineError)
    assert told.brief == f"no space left in {tmp_path}" and told.exit_code == 1
    assert told.hint is not None and "SANDBOX_CACHE_DIR" in told.hint
    if isinstance(error, EngineError):
        assert told.details is not None and told.details.endswith("the package could not be unpacked\nits last words")


@pytest.mark.parametrize(
    "error",
    [
        EngineError("setup[0] failed", details="dd: No space left on device"),  # of the guest's own disk
        ProcessError(["dpkg-deb"], 2, NO_SPACE),  # of a disk that is not this one
        OSError(errno.EACCES, "x"),
    ],
)
def test_other_failures_stay_what_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    free(monkeypatch, 10**12)
    assert explain(tmp_path, error) is error


def test_what_a_step_needs_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    free(monkeypatch, 10_000_000)
    told = explain(tmp_path, EngineError("no space left in somewhere", hint="the image needs 4 GiB"))
    assert isinstance(told, EngineError) and told.details is not None
    assert told.details.splitlines() == ["more than 10 MB needed there, 10 MB free", "the image needs 4 GiB"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_what_fills_the_disk_says_what_it_needs(tmp_path: Path, number: int) -> None:
    with pytest.raises(EngineError) as caught, making("the image", tmp_path, 1024**3, EngineError):
        raise OSError(number, "x")
    assert caught.value.brief == f"no space left in {tmp_path}"
    assert caught.value.hint == "the image needs 1 GiB while it is made"


def test_what_needs_more_than_there_is_is_not_begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    free(monkeypatch, 600 * 1024**2)
    with pytest.raises(EngineError, match="no space left") as caught:
        with making("the toolchain", tmp_path, 700 * 1024**2, EngineError):
            raise AssertionError("it was begun")
    assert caught.value.hint == "the toolchain needs 700 MiB while it is made"


def test_what_fails_for_another_reason_says_which(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="the image could not be made in") as caught:
        with making("the image", tmp_path / "new", 1, EngineError):
            (tmp_path / "new/file").read_bytes()
    assert "No such file" in str(caught.value.details)


def test_work_that_waits_for_room_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    free(monkeypatch, 0)
    monkeypatch.setattr(room, "POLL_S", 0)
    monkeypatch.setattr(room, "FULL_S", 0)
    cleaned = []

    async def wait_for_ever() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cleaned.append(True)

    with pytest.raises(OSError) as caught:
        asyncio.run(while_room(wait_for_ever(), tmp_path))
    assert caught.value.errno == errno.ENOSPC and cleaned


def test_a_disk_that_is_full_for_a_moment_ends_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looks = []
    done: asyncio.Event
    monkeypatch.setattr(room, "POLL_S", 0)

    def look(directory: Path) -> int:
        looks.append(directory)
        if len(looks) == 5:
            done.set()
        return 0 if len(looks) % 2 else 10**9

    monkeypatch.setattr(room, "free_bytes", look)

    async def scenario() -> None:
        nonlocal done
        done = asyncio.Event()

        async def work() -> None:
            await done.wait()

        await while_room(work(), tmp_path)

    asyncio.run(scenario())


def test_a_failure_and_a_deadline_of_the_work_pass_through(tmp_path: Path) -> None:
    async def late() -> None:
        raise TimeoutError("its own")

    with pytest.raises(TimeoutError, match="its own"):
        asyncio.run(while_room(late(), tmp_path))
