"""Unpacking packages on the host: what arrives, and what a hostile package cannot do."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path
from typing import Any

import pytest

from engine.build.nodes.package_tree import PackageTree, link_programs
from engine.errors import EngineError

PACKAGE = "package.tgz"


def tarball(path: Path, *entries: tuple[tarfile.TarInfo, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for member, content in entries:
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


def entry(name: str, content: bytes = b"", **fields: Any) -> tuple[tarfile.TarInfo, bytes]:
    member = tarfile.TarInfo(name)
    for field, value in fields.items():
        setattr(member, field, value)
    return member, content


def unpack(tmp_path: Path, *entries: tuple[tarfile.TarInfo, bytes], strip: bool = False) -> Path:
    tree = PackageTree(tmp_path / "tree")
    tree.unpack(tarball(tmp_path / PACKAGE, *entries), "it", strip=strip)
    tree.finish()
    return tmp_path / "tree" / "it"


def test_files_directories_and_links_arrive(tmp_path: Path) -> None:
    program = entry("package/bin/run", b"program", mode=0o755, uid=501, uname="somebody")
    link = entry("package/run", type=tarfile.SYMTYPE, linkname="bin/run")
    root = unpack(tmp_path, link, program, entry("package/README.md", b"text", mode=0o600))
    assert (root / "package/run").readlink() == Path("bin/run") and (root / "package/run").read_bytes() == b"program"
    modes = {name: (root / "package" / name).stat().st_mode & 0o7777 for name in ("bin/run", "README.md")}
    assert modes == {"bin/run": 0o755, "README.md": 0o644}


def test_set_id_bits_do_not_come_along(tmp_path: Path) -> None:
    root = unpack(tmp_path, entry("package/su", b"x", mode=0o6755))
    assert (root / "package/su").stat().st_mode & 0o7777 == 0o755


def test_the_first_part_of_names_may_be_left_away(tmp_path: Path) -> None:
    root = unpack(tmp_path, entry("anything", type=tarfile.DIRTYPE), entry("anything/index.js", b"x"), strip=True)
    assert [path.name for path in root.iterdir()] == ["index.js"]


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (entry("../etc/passwd", b"x"), "leads out of it"),
        (entry("/etc/passwd", b"x"), "leads out of it"),
        (entry("package/../../x", b"x"), "leads out of it"),
        (entry("package/l", type=tarfile.SYMTYPE, linkname="/etc"), "leads out of it"),
        (entry("package/l", type=tarfile.SYMTYPE, linkname="../../etc"), "leads out of it"),
        (entry("package/l", type=tarfile.LNKTYPE, linkname="package/x"), "no file"),
        (entry("package/d", type=tarfile.CHRTYPE), "no file"),
        (entry("package/f", type=tarfile.FIFOTYPE), "no file"),
        (entry("package/ok/below", b"x"), "of one name"),
        (entry("package/ok", type=tarfile.DIRTYPE), "of one name"),
        (entry("package/ok", type=tarfile.SYMTYPE, linkname="other"), "of one name"),
    ],
    ids=lambda value: value if isinstance(value, str) else f"{value[0].name} {value[0].linkname}",
)
def test_what_a_package_may_not_hold(tmp_path: Path, bad: tuple[tarfile.TarInfo, bytes], words: str) -> None:
    with pytest.raises(EngineError, match=words):
        unpack(tmp_path, entry("package/ok", b"x"), bad)


def test_a_stripped_link_stays_in_its_package(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="leads out"):
        unpack(tmp_path, entry("package/l", type=tarfile.SYMTYPE, linkname="../other/x"), strip=True)


def test_no_file_is_written_through_a_link(tmp_path: Path) -> None:
    """The classic: a link first, and then a file below its name."""
    (tmp_path / "outside").mkdir()
    tree = PackageTree(tmp_path / "tree")
    away = entry("package/away", type=tarfile.SYMTYPE, linkname="inside")
    tree.unpack(tarball(tmp_path / PACKAGE, away, entry("package/away/file", b"x")), "it")
    with pytest.raises(EngineError, match="of one name"):
        tree.finish()
    assert not (tmp_path / "tree/it/package/away").is_symlink()
    assert list((tmp_path / "outside").iterdir()) == []


def test_links_do_not_climb_step_by_step(tmp_path: Path) -> None:
    """Each leads one directory up, by the one before it."""
    steps = [("b/c", ".."), ("x", "b/c/.."), ("y", "x/.."), ("y/victim", "z")]
    links = [entry(f"package/{name}", type=tarfile.SYMTYPE, linkname=target) for name, target in steps]
    with pytest.raises(EngineError, match=r"leads out|below it"):
        unpack(tmp_path, entry("package/b/f", b"x"), *links)
    assert {path.name for path in tmp_path.iterdir()} <= {"tree", PACKAGE, "home"}


def test_nothing_is_made_below_a_link(tmp_path: Path) -> None:
    links = [entry(f"package/{name}", type=tarfile.SYMTYPE, linkname="b") for name in ("l", "l/m")]
    with pytest.raises(EngineError, match="something below it"):
        unpack(tmp_path, entry("package/b/f", b"x"), *links)


def test_what_is_no_package(tmp_path: Path) -> None:
    whole = tarball(tmp_path / PACKAGE, entry("package/big", os.urandom(100_000))).read_bytes()
    for data in (b"", b"no gzip at all", whole[: len(whole) // 2]):
        (tmp_path / PACKAGE).write_bytes(data)
        with pytest.raises(EngineError, match="no readable package"):
            PackageTree(tmp_path / "tree").unpack(tmp_path / PACKAGE, "it")


def test_it_can_be_given_up(tmp_path: Path) -> None:
    tree = PackageTree(tmp_path / "tree")
    tree.cancelled.set()
    with pytest.raises(EngineError, match="given up"):
        tree.unpack(tarball(tmp_path / PACKAGE, entry("package/x", b"x")), "it")


def test_a_pattern_names_one_file(tmp_path: Path) -> None:
    tree = PackageTree(tmp_path / "tree")
    tree.unpack(tarball(tmp_path / PACKAGE, entry("package/a/run", b"x"), entry("package/b/run", b"x")), "it")
    assert tree.find("it", "package/a/run") == "it/package/a/run"
    for pattern in ("package/*/run", "package/c/run"):
        with pytest.raises(EngineError, match="should be one file"):
            tree.find("it", pattern)


def test_programs_of_packages_are_linked_as_npm_does(tmp_path: Path) -> None:
    tree = PackageTree(tmp_path / "tree")
    tree.unpack(tarball(tmp_path / PACKAGE, entry("package/cli.js", b"x")), "it/node_modules/@a/b", strip=True)
    found = dict(link_programs(tree, "it/node_modules/@a/b", {"b": "./cli.js", "gone": "gone.js"}))
    tree.finish()
    assert found == {"b": "it/node_modules/@a/b/cli.js"}
    link = tmp_path / "tree/it/node_modules/.bin/b"
    assert link.readlink() == Path("../@a/b/cli.js") and link.stat().st_mode & 0o111
    with pytest.raises(EngineError, match="leads out"):
        list(link_programs(tree, "it/node_modules/@a/b", {"b": "../../x"}))
