"""What the guest has changed in its clone, as the host sees it, and what a hostile guest cannot say."""

from __future__ import annotations

import io
import json
import os
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cloned import Cloned, write

from engine.clones.base import Base, Entry
from engine.clones.changes import Changes, _Told
from engine.clones.comparison import compare, merge
from engine.errors import EngineError
from vmm.channel.errors import GuestError


@pytest.fixture
def cloned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cloned:
    cloned = Cloned(tmp_path, monkeypatch)
    cloned.git("init", "-q")
    write(cloned.host, {".gitignore": "build/\n", "a.py": "one\ntwo\nthree\n", "run.sh": "x", "old": "o", "d/e": "e"})
    (cloned.host / "link").symlink_to("a.py")
    cloned.commit()
    cloned.clone()
    return cloned


def test_nothing_was_changed(cloned: Cloned) -> None:
    assert cloned.found() == {}


def test_each_kind_of_change(cloned: Cloned) -> None:
    write(cloned.guest, {"a.py": "one\n2\nthree\n", "new name.txt": "n", "build/out": "ignored"})
    (cloned.guest / "old").unlink()
    (cloned.guest / "run.sh").chmod(0o755)
    (cloned.guest / "link").unlink()
    (cloned.guest / "link").symlink_to("run.sh")
    os.utime(cloned.guest / "d/e")
    assert cloned.found() == {
        "a.py": "changed",
        "link": "changed",
        "new name.txt": "new",
        "old": "gone",
        "run.sh": "changed",
    }


def test_a_change_of_the_same_size(cloned: Cloned) -> None:
    write(cloned.guest, {"d/e": "f"})
    assert cloned.found() == {"d/e": "changed"}


def test_what_was_committed_in_the_guest_counts_too(cloned: Cloned) -> None:
    write(cloned.guest, {"a.py": "1", "new": "n"})
    cloned.git("add", "-A", where=cloned.guest)
    cloned.git("commit", "-qm", "y", where=cloned.guest)
    assert cloned.found() == {"a.py": "changed", "new": "new"}


def test_without_git_in_the_guest(cloned: Cloned) -> None:
    (cloned.guest / ".git").rename(cloned.guest.parent / "elsewhere")
    write(cloned.guest, {"new": "n"})
    (cloned.guest / "to-directory").symlink_to("d")
    assert cloned.found() == {"new": "new", "to-directory": "new"}


def test_a_repository_within_is_files_of_the_clone(cloned: Cloned) -> None:
    (cloned.guest / "inner").mkdir()
    cloned.git("init", "-q", where=cloned.guest / "inner")
    write(cloned.guest, {"inner/a": "a"})
    assert cloned.found() == {"inner/a": "new"}


def test_what_is_ignored_without_a_repository_in_the_guest(cloned: Cloned) -> None:
    (cloned.guest / ".git").rename(cloned.guest.parent / "elsewhere")
    write(cloned.guest, {"build/out": "ignored", "new": "n"})
    assert cloned.found() == {"new": "new"}


def test_text_that_is_no_utf_8_stays_as_it_is_in_a_patch(cloned: Cloned) -> None:
    (cloned.guest / "a.py").write_bytes(b"one\nt\xfcwo\nthree\n")
    changes = cloned.changes()
    patch = compare(changes, changes.found).encode(errors="surrogateescape")
    (cloned.host.parent / "patch").write_bytes(patch)
    cloned.git("apply", str(cloned.host.parent / "patch"))
    assert (cloned.host / "a.py").read_bytes() == b"one\nt\xfcwo\nthree\n"


def test_the_diff_is_git_s(cloned: Cloned) -> None:
    write(cloned.guest, {"a.py": "one\n2\nthree\n", "bin": "\0"})
    (cloned.guest / "old").rename(cloned.guest / "moved")
    changes = cloned.changes()
    text = compare(changes, changes.found)
    assert "-two\n+2\n" in text and "rename from old\nrename to moved" in text and "GIT binary patch" in text
    assert "3 files changed, 1 insertion(+), 1 deletion(-)" in compare(changes, changes.found, summary=True)


def test_names_that_git_would_read_otherwise(cloned: Cloned) -> None:
    name = 'q"uo\\te'
    write(cloned.guest, {name: "n"})
    changes = cloned.changes()
    assert [change.path for change in changes.found] == [name]
    assert "new file" in compare(changes, changes.found)


def test_merging(tmp_path: Path) -> None:
    here = tmp_path / "here"
    here.mkdir()
    base = b"1\n2\n3\n4\n5\n"
    assert merge(base, b"1!\n2\n3\n4\n5\n", b"1\n2\n3\n4\n5!\n", here) == b"1!\n2\n3\n4\n5!\n"
    assert merge(base, b"1!\n2\n3\n4\n5\n", b"1?\n2\n3\n4\n5\n", here) is None
    assert merge(b"\0", b"\0a", b"\0b", here) is None
    assert not list(here.iterdir())


def archive(told: Any, *members: tuple[str, dict[str, Any], bytes]) -> Callable[[], bytes]:
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, fields, content in (("changes.json", {}, json.dumps(told).encode()), *members):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            for key, value in fields.items():
                setattr(member, key, value)
            tar.addfile(member, io.BytesIO(content))
    chunks = [raw.getvalue(), b""]
    return lambda: chunks.pop(0)


def told(tmp_path: Path, receive: Callable[[], bytes]) -> Changes:
    (tmp_path / "blobs").mkdir(exist_ok=True)
    base = Base(tmp_path, {"a": Entry(False, "0" * 40, 1)})
    telling = _Told(base, tmp_path / "blobs")
    telling.take(receive)
    return telling.changes()


@pytest.mark.parametrize(
    "name",
    [
        "files/../x",
        "files//etc/passwd",
        "/etc/passwd",
        "files/.git/hooks/pre-commit",
        "files/a/.GIT/config",
        "files/.git /config",
        "files/GIT~1/config",
        "other/a",
        "files/a\nb",
    ],
)
def test_a_name_that_leads_elsewhere_is_left_out(tmp_path: Path, name: str) -> None:
    changes = told(tmp_path, archive({"gone": []}, (name, {}, b"x")))
    assert changes.found == () and len(changes.skipped) == 1
    assert {path.name for path in (tmp_path / "blobs").iterdir()} == set()


def test_devices_are_left_out_and_strangers_are_not_gone(tmp_path: Path) -> None:
    device = ("files/dev", {"type": tarfile.CHRTYPE}, b"")
    changes = told(tmp_path, archive({"gone": ["a", "stranger", 3]}, device))
    assert [(change.path, change.word) for change in changes.found] == [("a", "gone")]
    assert changes.skipped == ("dev",)


@pytest.mark.parametrize("said", [[], {}, {"gone": 3}, {"gone": None}, "x"])
def test_a_guest_that_says_nothing_sensible(tmp_path: Path, said: Any) -> None:
    with pytest.raises(GuestError, match="does not say what has changed"):
        told(tmp_path, archive(said))


def test_a_guest_that_nests_without_end(tmp_path: Path) -> None:
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w", format=tarfile.PAX_FORMAT) as tar:
        member = tarfile.TarInfo("changes.json")
        member.size = 200_000
        tar.addfile(member, io.BytesIO(b"[" * 200_000))
    chunks = [raw.getvalue(), b""]
    with pytest.raises(GuestError, match="does not say what has changed"):
        told(tmp_path, lambda: chunks.pop(0))


def test_a_guest_that_says_too_much(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.clones.changes.MOST_BYTES", 5)
    with pytest.raises(EngineError, match="have changed in the clone"):
        told(tmp_path, archive({"gone": []}, ("files/b", {}, b"123456")))
