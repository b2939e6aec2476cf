"""Something else under the name of the file: it is said what it is, and the file of a directory above is not taken."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from cli_world import CommandLine

from engine.lifecycle.project_file import locate
from sandboxfile import find
from sandboxfile.load import FILE_NAMES

PARENT = 'version: "1"\nname: parent\n'


def _nowhere(path: Path) -> None:
    path.symlink_to("gone.yaml")


def _loop(path: Path) -> None:
    path.symlink_to(path)


# What it is -> how it is made, and what is said of it.
ODD: dict[str, tuple[Callable[[Path], None], str]] = {
    "a link to nothing": (_nowhere, "a link that leads nowhere"),
    "a loop": (_loop, "a link that leads nowhere"),
    "a directory": (Path.mkdir, "a directory"),
    "a pipe": (os.mkfifo, "not a regular file"),
}


@pytest.fixture(params=FILE_NAMES)
def odd(request: pytest.FixtureRequest, sandbox: CommandLine) -> Path:
    """A path in a directory of the project; the project itself has a good file."""
    sandbox.file(PARENT)
    (sandbox.project / "child").mkdir()
    return sandbox.project / "child" / str(request.param)


@pytest.mark.parametrize("kind", ODD)
def test_it_is_said_what_it_is(sandbox: CommandLine, odd: Path, kind: str) -> None:
    make, said = ODD[kind]
    make(odd)
    for argv, cwd in (
        (("validate",), odd.parent),
        (("validate", "child"), sandbox.project),
        (("config",), odd.parent),
        (("plan",), odd.parent),
        (("up", "-d", "-y"), odd.parent),
        (("add", "package", "jq"), odd.parent),
        (("init", "shell", "--yes"), odd.parent),
        (("init", "shell", "child", "--yes"), sandbox.project),
    ):
        ran = sandbox(*argv, cwd=cwd)
        assert ran.code == 2 and ran.out == "", (argv, ran)
        assert odd.name in ran.err and said in ran.err and "parent" not in ran.err, (argv, ran.err)
    assert os.path.lexists(odd) and not odd.is_file(), "it is still what it was"
    ran = sandbox("validate", "--json", cwd=odd.parent)
    assert ran.code == 2 and said in json.loads(ran.out)["diagnostics"][0]["message"]


@pytest.mark.parametrize("kind", ODD)
def test_init_may_overwrite_links_and_pipes(sandbox: CommandLine, odd: Path, kind: str) -> None:
    ODD[kind][0](odd)
    ran = sandbox("init", "shell", str(odd), "--yes", "--force")
    if kind == "a directory" and odd.suffix == ".yaml":
        assert ran.code == 0 and (odd / FILE_NAMES[0]).is_file(), "PATH is a directory"
        ran = sandbox("init", "shell", "--yes", "--force", cwd=odd.parent)
        assert ran.code == 2 and "which is a directory" in ran.err
    elif kind != "a directory":
        assert ran.code == 0 and odd.is_file() and not odd.is_symlink()


def test_a_directory_that_may_not_be_entered(sandbox: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    """As an unreadable file: exit code 2, and nobody looks further up."""
    (inner := sandbox.project / "inner").mkdir()
    sandbox.file(PARENT)
    inner.chmod(0)
    if os.geteuid() == 0:  # root may enter, so what others get is made up
        monkeypatch.setattr(os, "lstat", _forbidden(os.lstat, inner))
    for path in (inner, None):
        monkeypatch.chdir(inner)
        with pytest.raises(Exception, match="Permission denied") as caught:
            locate(path)
        assert getattr(caught.value, "exit_code", None) == 2
    inner.chmod(0o700)


def _forbidden(look: Callable[..., os.stat_result], directory: Path) -> Callable[..., os.stat_result]:
    def lstat(path: str | Path, **others: int) -> os.stat_result:
        if Path(path).parent == directory:
            raise PermissionError(13, "Permission denied", str(path))
        return look(path, **others)

    return lstat


def test_none_is_none(tmp_path: Path) -> None:
    assert find(tmp_path / "nowhere" / "at" / "all") is None
