"""Archives of a hostile guest: refused, and never held."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tarfile
import tempfile
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from vmm.channel.archive import MAX_DEPTH, SKIPPED_LINES, Copied, unpack
from vmm.channel.errors import GuestError
from vmm.channel.tar_reader import EndedEarly

BOUND = 1 << 20  # bytes that reading may hold, whatever comes
KIND, PAX = 156, tarfile.PAX_FORMAT


def header(name: str = "tree/f", kind: bytes = b"0", size: int = 0, **fields: object) -> bytes:
    member = tarfile.TarInfo(name)
    member.type, member.size, member.mtime = kind, size, 1_000_000_000
    for field, value in fields.items():
        setattr(member, field, value)
    return member.tobuf(tarfile.USTAR_FORMAT)


def resum(block: bytes) -> bytes:
    """A header whose checksum is right again."""
    block = block[:148] + b" " * 8 + block[156:]
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]


def extended(*records: tuple[bytes, bytes], kind: bytes = b"x") -> bytes:
    text = b""
    for keyword, value in records:
        length = len(keyword) + len(value) + 3
        while len(str(length)) + len(keyword) + len(value) + 3 != length:
            length = len(str(length)) + len(keyword) + len(value) + 3
        text += b"%d %s=%s\n" % (length, keyword, value)
    return raw_extended(text, kind)


def raw_extended(text: bytes, kind: bytes = b"x") -> bytes:
    return header("PaxHeaders/x", kind, len(text)) + text + bytes(-len(text) % 512)


END = bytes(1024)
TREE = header("tree", b"5", mode=0o755)


def endless(*parts: bytes, then: bytes) -> Callable[[], bytes]:
    """A stream of `parts` and then of `then` without end; AssertionError once a reader has taken 200 MB."""

    def chunks() -> Iterator[bytes]:
        yield from parts
        batch = then * max(1, 65536 // len(then))
        for _ in range(200_000_000 // len(batch)):
            yield batch
        raise AssertionError("it reads on and on")

    stream = chunks()
    return lambda: next(stream)


def read_into(parent: Path, data: bytes | Callable[[], bytes], chunk: int = 1000) -> Copied:
    if isinstance(data, bytes):
        stream = io.BytesIO(data)
        return unpack(lambda: stream.read(chunk), parent, "tree", "copy", None)
    return unpack(data, parent, "tree", "copy", None)


GNU_SPARSE = resum(header("tree/s", b"S")[:386] + (b"%011o\0" % 512) * 8 + b"\1" + bytes(29))
LYING = {
    "GNU sparse map": ([TREE, GNU_SPARSE], (b"%011o\0" % 512) * 42 + b"\1" + bytes(7), "type 'S'"),
    "pax sparse map": (
        [TREE, extended((b"GNU.sparse.major", b"1"), (b"GNU.sparse.minor", b"0"))],
        b"9\n" * 256,
        "GNU.sparse.major",
    ),
    "global headers": ([TREE], extended((b"comment", b"x" * 400), kind=b"g"), "type 'g'"),
    "extended headers": ([TREE], extended((b"comment", b"x" * 400)), "type 'x'"),
    "empty extended headers": ([TREE], raw_extended(b""), "type 'x'"),
    "long name": ([TREE, header("././@LongLink", b"L", 1 << 30)], b"n" * 512, "type 'L'"),
    "long link": ([TREE, header("././@LongLink", b"K", 1 << 30)], b"n" * 512, "type 'K'"),
    "huge extended header": ([TREE, header("x", b"x", 1 << 30)], b"n" * 512, "bytes of headers"),
    "after the end": ([TREE, END], bytes(512), "goes on after its end"),
    "Solaris headers": ([TREE], header("x", b"X", 10) + bytes(512), "type 'X'"),
}


@pytest.mark.parametrize("name", LYING)
def test_what_goes_on_for_ever_is_refused_at_once(tmp_path: Path, name: str) -> None:
    parts, then, said = LYING[name]
    tracemalloc.start()
    try:
        with pytest.raises(GuestError) as caught:
            read_into(tmp_path, endless(*parts, then=then))
        assert tracemalloc.get_traced_memory()[1] < 2 * BOUND
    finally:
        tracemalloc.stop()
    assert "cannot be read" in caught.value.brief and said in str(caught.value.details)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (extended((b"mtime", b"inf")) + header(), "a time is no number"),
        (extended((b"mtime", b"1e300")) + header(), "a time is no number"),
        (extended((b"mtime", b"9" * 5000)) + header(), "a time is no number"),
        (extended((b"size", b"-1")) + header(), "a size is no number"),
        (extended((b"size", b"9" * 19)) + header(), "a size is no number"),
        (extended((b"path", b"tree/a"), (b"path", b"tree/b")) + header(), "says 'path'"),
        (extended((b"path", b"tree/" + b"a" * 33000)) + header(), "too long"),
        (extended((b"linkpath", b"a" * 5000)) + header(kind=b"2"), "too long"),
        (extended((b"path", b"tree/a\0b")) + header(), "holds a zero"),
        (extended((b"linkpath", b"a\0b")) + header(kind=b"2"), "holds a zero"),
        (extended((b"SCHILY.xattr.user.x", b"1")) + header(), "SCHILY"),
        (raw_extended(b"7 path=x"), "extended header cannot be read"),
        (raw_extended(b"99999 path=x\n"), "extended header cannot be read"),
        (raw_extended(b"5 a=b\nno"), "extended header cannot be read"),
        (raw_extended(b"0 a=b\n"), "extended header cannot be read"),
        (raw_extended(b"-1 a=b\n"), "extended header cannot be read"),
        (raw_extended(b"3 path=x\n"), "extended header cannot be read"),
        (resum(header()[:124] + b"\x80" + b"\xff" * 11 + header()[136:]), "a size is no number"),
        (resum(header()[:136] + b"\xff" * 12 + header()[148:]), "a time is no number"),
        (resum(header()[:100] + b"rw-r--r-" + header()[108:]), "a mode is no number"),
        (header()[:148] + b"0" * 8 + header()[156:], "checksum"),
        (resum(header()[:257] + b"ustar  \0" + header()[265:]), "kind that was asked for"),
        (header(kind=b"5", size=512) + bytes(512), "content of something that is no file"),
        (header(kind=b"1", size=512) + bytes(512), "content of something that is no file"),
        (header(kind=b"V"), "type 'V'"),
        (header(kind=b"\xff"), "type"),
        (header("tree/d/", kind=b"\0"), "a directory to other readers"),
        (bytes(512) + header(), "its end is no end"),
        (extended((b"mtime", b"1")) + END, "its end is no end"),
        (raw_extended(b"") + END, "its end is no end"),
    ],
)
def test_what_our_tar_does_not_write_is_refused(tmp_path: Path, data: bytes, said: str) -> None:
    with pytest.raises(GuestError) as caught:
        read_into(tmp_path, TREE + data + END)
    assert said in str(caught.value.details)


@pytest.mark.parametrize("cut", [0, 1, 511, 512, 513, 600, 1024, 1536])
def test_a_stream_that_ends_early(tmp_path: Path, cut: int) -> None:
    whole = TREE + header(size=600) + b"x" * 600 + bytes(424) + END
    with pytest.raises(EndedEarly):
        read_into(tmp_path, whole[:cut])
    read_into(tmp_path, whole)
    assert (tmp_path / "copy" / "f").read_bytes() == b"x" * 600


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"1000000000.25", 1_000_000_000_250_000_000),
        (b"-1", -1_000_000_000),
        (b"-0.5", -500_000_000),
        (b"99999999999999999999", None),
        (b"1.99999999999999999999", 1_999_999_999),
    ],
)
def test_times_of_any_year(tmp_path: Path, text: bytes, expected: int | None) -> None:
    read_into(tmp_path, TREE + extended((b"mtime", text)) + header() + END)
    seen = (tmp_path / "copy" / "f").stat().st_mtime_ns
    assert expected is None or seen == expected


def test_trees_are_as_deep_as_allowed_and_no_deeper(tmp_path: Path) -> None:
    def nested(depth: int) -> bytes:
        names = ["/".join(["tree", *["d"] * level]) for level in range(depth + 1)]
        return b"".join(extended((b"path", name.encode())) + header("x", b"5") for name in names) + END

    read_into(tmp_path, nested(MAX_DEPTH))
    with pytest.raises(GuestError, match="nested deeper"):
        read_into(tmp_path, nested(MAX_DEPTH + 1))


def test_a_deep_tree_is_opened_once_on_the_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = 0
    real = os.open

    def counting(*args: object, **kwargs: object) -> int:
        nonlocal opened
        opened += 1
        return real(*args, **kwargs)  # type: ignore[arg-type]

    directory = "/".join(["tree", *["d"] * 50])
    above = [header("/".join(["tree", *["d"] * level]), b"5") for level in range(51)]
    files = [header(f"{directory}/{number}") for number in range(200)]
    monkeypatch.setattr(os, "open", counting)
    assert read_into(tmp_path, b"".join([*above, *files]) + END).files == 200
    assert opened < 51 + 200 + 10


def test_directories_keep_mode_and_time_in_any_order(tmp_path: Path) -> None:
    data = [TREE, header("tree/a", b"5", mode=0o500), header("tree/b", b"5", mode=0o750), header("tree/a/late")]
    read_into(tmp_path, b"".join(data) + END)
    assert (tmp_path / "copy" / "a" / "late").exists()
    assert (tmp_path / "copy" / "b").stat().st_mode & 0o777 == 0o750
    assert (tmp_path / "copy" / "a").stat().st_mode & 0o777 == 0o700  # always ours to remove
    assert (tmp_path / "copy" / "b").stat().st_mtime == 1_000_000_000


def test_what_is_left_out_is_told_within_bounds(tmp_path: Path) -> None:
    pipe = extended((b"path", b"tree/" + b"p" * 5000)) + header("x", b"6")
    copied = read_into(tmp_path, TREE + pipe * 2000 + END)
    assert len(copied.skipped) == SKIPPED_LINES + 1
    assert copied.skipped[-1] == f"... and {2000 - SKIPPED_LINES} more"
    assert max(map(len, copied.skipped)) <= 600


def test_bytes_one_by_one(tmp_path: Path) -> None:
    data = TREE + extended((b"path", b"tree/" + b"n" * 200)) + header(size=700) + b"x" * 700 + bytes(324) + END
    assert read_into(tmp_path, data, chunk=1) == Copied(1, 700, ())


def test_gnu_tar_is_understood(tmp_path: Path) -> None:
    """What `copy_out` has the guest run, on names, sizes and times that need each kind of header."""
    tree = tmp_path / "tree"
    deep = tree / ("d" * 200) / ("e" * 200)
    deep.mkdir(parents=True)
    (deep / ("f" * 250)).write_text("deep")
    (tree / os.fsdecode(b"\xff\xfe bytes")).write_text("x")
    (tree / ("ü" * 100)).write_text("u")
    (tree / "link").symlink_to("x/" * 150)
    with (tree / "holes").open("wb") as file:
        file.truncate(1 << 20)
    (tree / "a").write_text("1")
    os.link(tree / "a", tree / "b")
    os.utime(tree / "a", (-5, -5.5))
    os.utime(deep, (1e9, 1e9 + 0.125))
    argv = ["tar", "-c", "--format=posix", "--pax-option=delete=atime,delete=ctime", "--hard-dereference"]
    done = subprocess.run([*argv, "--numeric-owner", "-f", "-", "-C", str(tmp_path), "--", "tree"], capture_output=True)
    assert done.returncode == 0
    target = tmp_path / "to"
    target.mkdir()
    copied = read_into(target, done.stdout, chunk=65536)
    assert copied.skipped == () and copied.files == 6
    for path in tree.rglob("*"):
        there = target / "copy" / path.relative_to(tree)
        assert there.lstat().st_mtime_ns == path.lstat().st_mtime_ns, path
        assert there.is_symlink() or there.is_dir() or there.read_bytes() == path.read_bytes()
    assert (target / "copy" / "link").readlink() == Path("x/" * 150)


def sample() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=PAX) as tar:
        for name, kind, size in (("tree", b"5", 0), ("tree/" + "n" * 150, b"0", 700), ("tree/l", b"2", 0)):
            member = tarfile.TarInfo(name)
            member.type, member.size, member.mtime, member.linkname = kind, size, 1e9 + 0.5, "l" * (kind == b"2")
            tar.addfile(member, io.BytesIO(b"x" * size))
    return buffer.getvalue()[:6144]


SAMPLE = sample()
edits = st.lists(st.tuples(st.integers(0, len(SAMPLE) - 1), st.binary(min_size=1, max_size=40)), max_size=6)


def attempt(data: bytes, chunk: int) -> None:
    """Reads an archive as `copy_out` does; whatever it raises beside what a caller expects is a failure."""
    # What a thread of another test holds in that moment is counted, too, so the least of some attempts counts.
    for left in (2, 1, 0):
        if (peak := _peak(data, chunk)) < BOUND + 4 * len(data):
            return
        assert left, f"{peak} bytes for {len(data)}"


def _peak(data: bytes, chunk: int) -> int:
    with tempfile.TemporaryDirectory() as directory:
        # A disk of its own: a lying size shall not fill this one.
        tracemalloc.start()
        try:
            read_into(Path(directory), data, chunk)
        except GuestError:
            pass
        finally:
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
        assert sorted(path.name for path in Path(directory).iterdir()) in ([], ["copy"])
    return peak


@settings(max_examples=200, deadline=None)
@given(edits, st.booleans(), st.sampled_from([1, 7, 512, 70_000]))
@example([(0, b"tree/../x\0")], True, 512)
def test_mutated_archives(changes: list[tuple[int, bytes]], mend: bool, chunk: int) -> None:
    data = bytearray(SAMPLE)
    for at, new in changes:
        data[at : at + len(new)] = new
    if mend:  # else most of them fail at the checksum already
        for at in range(0, len(data) - 511, 512):
            if data[at + 257 : at + 262] == b"ustar":
                data[at : at + 512] = resum(bytes(data[at : at + 512]))
    attempt(bytes(data), chunk)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=3000), st.sampled_from([1, 512]))
def test_arbitrary_bytes(data: bytes, chunk: int) -> None:
    attempt(data, chunk)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from([b"path", b"linkpath", b"size", b"mtime", b"x"]), st.binary(max_size=60))),
    st.sampled_from([b"0", b"1", b"2", b"5", b"6", b"x", b"g", b"\0"]),
)
def test_arbitrary_records(records: list[tuple[bytes, bytes]], kind: bytes) -> None:
    attempt(TREE + extended(*records) + header("tree/y", kind) + END, 512)


def test_it_is_small_for_the_whole_process() -> None:
    """What the system counts, and not only what Python counts: 100 MB of a file, 20,000 members."""
    program = """
import resource, sys, tempfile
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import test_tar_reader as t
def stream():
    yield t.TREE
    yield t.header(size=100 << 20)
    for _ in range(1600):
        yield bytes(65536)
    for number in range(20_000):
        yield t.header(f"tree/d{number % 7}", b"5")
    yield t.END
from vmm.channel.archive import unpack
chunks = stream()
with tempfile.TemporaryDirectory() as directory:
    Path(directory, "copy").mkdir()
    Path(directory, "copy", "f").touch()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    unpack(lambda: next(chunks, b""), Path(directory), "tree", "copy", None)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    here = str(Path(__file__).parent)
    done = subprocess.run([sys.executable, "-c", program, here], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 4096  # KiB
