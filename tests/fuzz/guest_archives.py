"""What a guest's tar streams do on this host: copied out of it, sifted for the next guest, taken for a clone's changes.

An input is a byte, which chooses, and an archive as written_archives.py has it.
"""

from __future__ import annotations

import atexit
import hashlib
import io
import os
import re
import stat
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from written_archives import Entry, chunks, pythons, written

from engine.clones.applying import Host, carry_out, plan_apply
from engine.clones.base import Base, blob_digest
from engine.clones.base import Entry as BaseEntry
from engine.clones.changes import Changes, _Told
from engine.clones.comparison import _import
from engine.errors import EngineError
from vmm.channel.archive import Copied, unpack
from vmm.channel.errors import GuestError
from vmm.channel.sift import sift
from vmm.channel.tar_reader import BLOCK, TarMember, TarReader

LIMIT = 2000  # bytes of content
WANTED = ("kept", "a/wanted")
SCRATCH = tempfile.TemporaryDirectory(prefix="sandbox-fuzz-")
atexit.register(SCRATCH.cleanup)
CHUNKS = (100_000, 37, BLOCK - 1)


@contextmanager
def _place() -> Iterator[Path]:
    """A directory with a file in it, of which nobody may know."""
    with tempfile.TemporaryDirectory(dir=SCRATCH.name) as name:
        place = Path(name)
        (place / "outside").write_text("outside")
        (place / "inside").mkdir()
        yield place
        assert sorted(os.listdir(place)) == ["inside", "outside"] and (place / "outside").read_text() == "outside"  # noqa: PTH208
        assert (
            stat.S_IMODE((place / "outside").stat().st_mode) & 0o077 == 0o044
            and (place / "outside").stat().st_nlink == 1
        )


def _members(archive: bytes, size: int) -> list[tuple[TarMember, bytes]] | str:
    """What we read; why we do not."""
    reader, found = TarReader(chunks(archive, size)), []
    try:
        while (member := reader.next()) is not None:
            content = b""
            while part := reader.read(100):
                content += part
            found.append((member, content))
    except GuestError as error:
        return f"{error.brief}: {error.details}"
    return found


def tar(data: bytes) -> None:
    """Alike in any pieces, and as Python reads it; nothing is written elsewhere, and no link leads there."""
    archive = written(data[1:])
    read = [_members(archive, size) for size in CHUNKS]
    assert all(each == read[0] for each in read), "pieces change it"
    members = read[0]
    if not isinstance(members, str):
        _compare(members, list(pythons(archive)))
    choice = data[0] if data else 0
    name, root = ("copy", "tree") if choice & 1 else ("", ".")
    with _place() as place:
        inside = place / "inside"
        copied = None
        with suppress(GuestError):
            copied = unpack(chunks(archive, 1000), inside, root, name, LIMIT)
        found = dict(_tree(inside))
        sizes = [len(each) for each in found.values() if isinstance(each, bytes)]
        assert sum(sizes) <= LIMIT and (not name or {each.partition("/")[0] for each in found} <= {name})
        if copied is not None:
            assert not isinstance(members, str)
            _compare_tree(copied, members, found, root, name)


def _compare(ours: list[tuple[TarMember, bytes]], theirs: list[Entry]) -> None:
    assert len(ours) == len(theirs), f"Python reads {len(theirs)} members, we {len(ours)}"
    for (member, content), other in zip(ours, theirs, strict=True):
        # Of old archives a file whose name ends with a slash is a directory; Python removes slashes at ends.
        old = member.kind == b"0" and member.name.endswith("/")
        assert other.name.rstrip("/") == member.name.rstrip("/"), f"Python reads {other.name!r}, we {member.name!r}"
        assert old or (other.kind, other.size, other.content) == (member.kind, member.size, content)
        assert other.mode == member.mode and other.link == member.link


def _tree(top: Path) -> Iterator[tuple[str, bytes | str | None]]:
    """All below it: contents, targets of links, None for directories."""
    real = top.resolve()
    for where, directories, files in os.walk(top):
        for name in (*directories, *files):
            path = Path(where, name)
            kept, st = str(path.relative_to(top)), path.lstat()
            if stat.S_ISLNK(st.st_mode):
                lead = Path(os.path.realpath(path))
                assert lead.is_relative_to(real), f"a link leads out: {path} -> {path.readlink()}"
                yield kept, os.readlink(path)  # noqa: PTH115
                continue
            assert stat.S_ISDIR(st.st_mode) or stat.S_ISREG(st.st_mode), "something else was made"
            assert not st.st_mode & 0o7022, f"a mode of {st.st_mode:o}"
            if stat.S_ISREG(st.st_mode):
                assert st.st_nlink == 1
                path.chmod(0o600)
                yield kept, path.read_bytes()
            else:
                yield kept, None


def _compare_tree(
    copied: Copied,
    members: list[tuple[TarMember, bytes]],
    found: dict[str, bytes | str | None],
    root: str,
    name: str,
) -> None:
    """The last member of a name decides, and there is nothing else."""
    expected: dict[str, bytes | str | None] = {}
    files = size = 0
    for member, content in members:
        parts = [part for part in member.name.split("/") if part not in ("", ".")]
        path = "/".join([name, *parts[1:]]) if name else "/".join(parts)
        files, size = (files + 1, size + len(content)) if member.kind == b"0" and path else (files, size)
        if not path or member.kind not in b"025":
            continue
        if member.kind != b"2":
            expected[path] = content if member.kind == b"0" else None
        elif found.get(path) == member.link or path not in expected:
            expected[path] = member.link
    for path, content in found.items():
        parents = any(each.startswith(f"{path}/") for each in found)
        assert expected.get(path) == content or (content is None and parents), f"{path!r} is {content!r}"
    missing = [path for path, content in expected.items() if path not in found and not isinstance(content, str)]
    assert not missing and (copied.files, copied.size) == (files, size), f"{missing} are not there"
    assert all(len(line) <= 600 for line in copied.skipped)


def sifted(data: bytes) -> None:
    """What goes on is an archive of ours: files and directories that were wanted, as Python reads the first one."""
    archive = written(data[1:])
    sent = bytearray()
    try:
        copied = sift(chunks(archive, 1000), sent.extend, WANTED, LIMIT, skip=data[:1] == b"\1")
    except (GuestError, tarfile.TarError) as error:
        assert isinstance(error, GuestError), f"{type(error).__name__} comes out"
        return
    if not archive:
        assert not sent
        return
    onward = list(pythons(bytes(sent)))
    assert sum(len(each.content) for each in onward) == copied.size <= LIMIT
    for one in onward:
        parts = one.name.split("/")
        assert one.kind in (b"0", b"5") and not one.mode & ~0o755 and not {"", ".", ".."} & set(parts)
        assert any(parts[: len(each.split("/"))] == each.split("/") for each in WANTED), f"{one.name!r} goes on"
    first = [each for each in pythons(archive) if each.kind in (b"0", b"5")]
    assert [(each.name.rstrip("/"), each.content) for each in first] == [(each.name, each.content) for each in onward]
    again = _members(bytes(sent), 1000)
    assert not isinstance(again, str) and [content for _, content in again] == [each.content for each in onward]


# Clones

TOLD = {"a": b"one\n", "d/b": b"two\n", "gone": b"three\n"}  # what the clone was made of, and the host still has
_GITS = re.compile(r"(?i)(\.git|git~1)[. ]*(:.*)?")


def _base(place: Path) -> Base:
    return Base(place, {path: BaseEntry(False, blob_digest(text), len(text)) for path, text in TOLD.items()})


def changes(data: bytes) -> None:
    """What a guest says of its clone: names within it and none of git's; applied, it is that."""
    archive = written(data[1:])
    with _place() as place:
        blobs, host = place / "inside/blobs", place / "inside/host"
        blobs.mkdir()
        for path, text in TOLD.items():
            (host / path).parent.mkdir(parents=True, exist_ok=True)
            (host / path).write_bytes(text)
        told = _Told(_base(place), blobs)
        with suppress(GuestError, EngineError):
            told.take(chunks(archive, 1000))
            _check_changes(told.changes(), blobs)
            _apply(told.changes(), host)


def _check_changes(found: Changes, blobs: Path) -> None:
    for change in found.found:
        assert not set(change.path.split("/")) & {"", ".", ".."} and not set("\0\n") & set(change.path)
        assert not any(_GITS.fullmatch(part) for part in change.path.split("/")), f"{change.path!r} is git's"
        content = found.after(change)
        if change.after is not None:
            assert hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest() == change.after.digest
    for file in blobs.iterdir():
        assert re.fullmatch(r"[0-9a-f]{40}|beside", file.name)
    assert len(found.skipped) <= 20 and all(len(each) <= 200 for each in found.skipped)
    script = io.BytesIO(b"".join(_import(_with_content(found), list(found.found))))
    assert sorted(_imported(script)) == sorted(os.fsencode(each.path) for each in found.found if each.after)


def _with_content(found: Changes) -> Changes:
    class Known(Base):
        def content(self, path: str) -> bytes:
            return TOLD[path]

    return Changes(Known(found.base.directory, found.base.entries), found.found, found.blobs)


def _imported(script: io.BytesIO) -> Iterator[bytes]:
    """The paths of the second commit, as git-fast-import(1) reads them."""
    commits = 0
    while line := script.readline():
        if line.startswith(b"commit "):
            commits += 1
        elif line.startswith(b"M "):
            quoted = re.fullmatch(rb'M (?:100644|100755|120000) inline "((?:[^"\\\n]|\\["\\n])*)"\n', line)
            assert quoted, f"git reads {line!r} otherwise"
            size = int(script.readline().split()[1])
            script.read(size + 1)
            if commits == 2:
                yield re.sub(rb"\\(.)", lambda sign: b"\n" if sign[1] == b"n" else sign[1], quoted[1])
        else:
            assert line.startswith((b"committer ", b"data 0\n")), line


def _apply(found: Changes, source: Path) -> None:
    with Host(str(source)) as host:
        steps = plan_apply(found, host, found.found)
        before = dict(_tree(source))
        try:
            carry_out(host, steps)
        except EngineError:
            assert dict(_tree(source)) == before or any(one.name.endswith(".old") for one in source.rglob("*"))
            return
    after: dict[str, Any] = dict(_tree(source))
    for step in steps:
        if step.acts and step.entry is not None:
            target = step.entry.target
            assert after[step.change.path] == (step.content if target is None else target)
    assert not [path for path in after if ".sandbox-apply-" in path], "something is left beside the files"


ARCHIVE_SEEDS = (
    b"\x015tree|||\n0tree/a||one|mode=0004777\n5tree/d|||mode=0000500\n0tree/d/b||two|\n2tree/l|d/b||\n2tree/m|../../outside||",
    b"\x0050./|||\n0./a||one|+path=./long,+mtime=-1.5,+size=3\n2./l|a||\n2./d|/etc||\n0./l||x|\n1./h|./a||\n6./p|||",
    b"\x01" + b"0tree/a||x|+size=9,prefix=q\n0tree/../../outside||x|\n5tree/l|||\n2tree/l|..||\n0tree/l/x||x|",
    b"\x00" + b"2a|b||\n2b|..||\n0a/x||x|\n0a||x|size=00000007777\0\n!" + bytes(512),
    b"\x01" + b"0tree/a||content|~",
)
SIFT_SEEDS = (
    b"\x005kept|||\n0kept/a||one|+path=kept/\xc3\xbc,mode=0006777\n5a/wanted/|||\n0a/wanted/b||two|mtime=77777777777\0",
    b"\x012kept/l|/etc/passwd||\n0kept/\xff\xfe||x|+mtime=-7.25\n6kept/p|||\n1kept/h|kept/a||",
    b"\x000keptx||x|\n0kept||x|",
    b"\x000kept/../x||x|",
)
CHANGE_SEEDS = (
    b'\x000changes.json||{"gone": ["gone", "x"]}|\n0files/a||new\n0files/x/y||z|mode=0000755\n2files/l|x/y||',
    b'\x000changes.json||{"gone": []}|\n0files/.git/config||x|\n0files/.GIT./h||x|\n0files/git~1||x|\n0files/a/b|||',
    b'\x000changes.json||{"gone": ["a"]}|\n0files/d||x|\n2files/a|../outside||\n2files/d/b|.git/config||\n5files/q|||',
    b'\x000changes.json||{"gone": [[]]}|\n0files/"q\\||x|\n0files/a\xe2\x80\x8b||x|\n0files/../outside||x|',
    b'\x000changes.json||["gone"]|',
)
ARCHIVE_WORDS = (
    *(b"tree/ ./ ../ files/ kept/ a/wanted/ +path= +linkpath= +size= +mtime= mode= prefix= outside .git".split()),
    *(b'{"gone": [ {"changed": changes.json |||'.split()),
    b"\n0",
    b"\n2",
    b"\n5",
)
