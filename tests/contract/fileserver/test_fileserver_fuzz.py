"""Whatever bytes come: the server lives, and nothing outside of the share changes."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator

import hypothesis
import pytest
from fuse_client import ANSWER, REQUEST, FuseClient, FuseError
from hypothesis import strategies as st
from server_process import Place, Served, picture

from vmm.fileserver import fuse

OPERATIONS = sorted(
    value
    for name, value in vars(fuse).items()
    if name.isupper() and isinstance(value, int) and name.split("_")[0] in (
        "LOOKUP", "FORGET", "GETATTR", "SETATTR", "READLINK", "SYMLINK", "MKNOD", "MKDIR", "UNLINK", "RMDIR", "RENAME",
        "LINK", "OPEN", "READ", "WRITE", "STATFS", "RELEASE", "FSYNC", "FLUSH", "INIT", "OPENDIR", "READDIR",
        "RELEASEDIR", "FSYNCDIR", "GETLK", "SETLK", "CREATE", "INTERRUPT", "DESTROY", "BATCH", "FALLOCATE", "RENAME2",
        "LSEEK", "COPY", "SYNCFS", "TMPFILE",
    )
)  # fmt: skip
SMALL = st.integers(0, 8)
NUMBERS = SMALL | st.sampled_from([255, 4096, 1 << 20, (1 << 31) - 1, 1 << 31, (1 << 32) - 1])
WORDS = st.one_of(
    NUMBERS.map(lambda number: number.to_bytes(4, "little")),
    (NUMBERS | st.sampled_from([1 << 63, (1 << 64) - 1])).map(lambda number: number.to_bytes(8, "little")),
    st.sampled_from([
        b"file\0", b"directory\0", b"link\0", b"new\0", b"..\0", b"../outside/file\0", b"/etc/passwd\0", b".\0", b"\0",
        b"directory/../../outside/file\0", b"kept\0", b"data\0", b"x" * 255 + b"\0", b"x" * 256 + b"\0",
    ]),
    st.binary(max_size=40),
)  # fmt: skip
BODIES = st.lists(WORDS, max_size=8).map(b"".join)
REQUESTS = st.tuples(
    st.sampled_from(OPERATIONS) | NUMBERS,
    SMALL | st.sampled_from([1 << 63, (1 << 64) - 1]),
    BODIES,
    st.none() | NUMBERS,
    st.sampled_from([0, 8, 16, 64, 65536]),
)


@pytest.fixture
def running(place: Place) -> Iterator[tuple[Place, Served, FuseClient]]:
    place.write("share/directory/below", "below\n")
    with place.client(protected=("kept",)) as (served, client):
        yield place, served, client


def seen(place: Place) -> tuple[object, ...]:
    file = place.share / "kept"
    st = file.stat()
    return file.read_text(), st.st_ino, st.st_mode, st.st_uid, st.st_nlink, st.st_mtime_ns, st.st_ctime_ns


@hypothesis.settings(
    max_examples=60, suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture], database=None
)
@hypothesis.given(requests=st.lists(REQUESTS, min_size=10, max_size=60))
def test_no_request_kills_the_server_or_reaches_out(
    running: tuple[Place, Served, FuseClient], requests: list[tuple[int, int, bytes, int | None, int]]
) -> None:
    place, served, client = running
    place.write("share/kept", "kept\n")
    place.write("share/file", "file\n")
    client.init()
    client.restart()
    client.listing(1)
    client.look_up(1, "file")
    without = (place.share, place.base / "run", place.code)
    before, kept = picture(place.base, without), seen(place)
    for operation, node, body, length, room in requests:
        size = 40 + len(body)
        head = fuse.IN_HEADER.pack(size if length is None else length, operation, 3, node, 0, 0, 1, 0, 0)
        client.memory[REQUEST : REQUEST + size] = head + body
        chain = [(REQUEST, size, 1 if room else 0, 1), *([(ANSWER, room, 2, 0)] if room else [])]
        if operation == fuse.SETLKW:  # it may wait for its lock for ever
            client.offer(chain)
            client.ask(3)
            client.restart()
        else:
            client.chain(chain)
    assert picture(place.base, without) == before
    assert served.process.poll() is None and served.words() == ""
    assert seen(place) == kept
    with contextlib.suppress(FuseError):
        client.send(fuse.DESTROY, 1)
    client.init()
    assert stat.S_ISDIR(client.attributes(1)[9]) and "kept" in client.listing(1)
    for name in os.listdir(place.share):  # noqa: PTH208
        with contextlib.suppress(OSError):
            if name not in ("kept", "file", "directory"):
                (place.share / name).unlink()
