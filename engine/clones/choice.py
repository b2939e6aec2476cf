"""Which files of a directory are copied into a clone.

In a git repository: those that git tracks, and those that it neither tracks nor ignores. Elsewhere: all. The repository
comes along without what belongs to this host: hooks, the configuration, which may hold credentials, and locks.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from engine.clones.git import NoGit, run_git
from engine.clones.linked import MOST_SUBMODULES, Linked, linked_repository
from engine.clones.repository import REPOSITORY, copied_configuration, is_of_repository
from engine.errors import EngineError
from vmm.walk import LeaveOut

_CHOSEN = ("--cached", "--others", "--exclude-standard")
_IGNORED = ("--others", "--ignored", "--exclude-standard", "--directory")


@dataclass(frozen=True)
class Choice:
    """`files` are the chosen paths, None for all. `configuration` is the copy's .git/config, None without a repository.
    `head` is the commit that is checked out, `refs` are all that have a name. `note` says what does not come along.
    `linked` are repositories that lie elsewhere, and submodules'. `ignored` are the files, and the directories with all
    that is in them, that git ignores."""

    files: frozenset[str] | None
    configuration: str | None = None
    head: str | None = None
    refs: tuple[str, ...] = ()
    note: str | None = None
    linked: tuple[Linked, ...] = ()
    ignored: frozenset[str] = frozenset()

    def repositories(self, without: Iterable[str] = (), hide: Iterable[str] = ()) -> tuple[Linked, ...]:
        """Those of elsewhere that come along."""
        barred = _barred(tuple(without), tuple(hide))
        return tuple(one for one in self.linked if not any(map(barred, (one.place, *_above(one.place)))))

    def leave_out(self, without: Iterable[str] = (), hide: Iterable[str] = ()) -> LeaveOut:
        """What a walk of the directory leaves out.

        `without` are paths, and `hide` patterns of .gitignore, that are left out in any case. Raises EngineError for
        what is no pattern.
        """
        barred = _barred(tuple(without), tuple(hide))
        kept = None if self.files is None else self.files | {up for path in self.files for up in _above(path)}

        def judge(name: str, with_all_below: bool) -> bool:
            if barred(name):
                return True
            if name == REPOSITORY:
                return self.configuration is None
            if name.startswith(f"{REPOSITORY}/"):
                return self.configuration is None or not is_of_repository(name.removeprefix(f"{REPOSITORY}/"))
            return kept is not None and name not in kept

        return judge


def choose_files(source: Path) -> Choice:
    """Look at the directory. Raises EngineError for a repository that cannot be copied."""
    place = source / REPOSITORY
    if not place.exists() and not _is_within_a_repository(source):
        return Choice(None)
    try:
        files = _listed(source, *_CHOSEN)
    except NoGit:
        return Choice(None, note="git is not installed on this host: all files are copied, and no repository")
    ignored = _listed(source, *_IGNORED)
    linked, configuration = [], None
    if place.is_symlink() or not place.is_dir():
        repository = linked_repository(source, "")
        if repository is None:
            note = "the repository is in another directory: the files are copied without it"
            return Choice(files, note=note, ignored=ignored)
        linked.append(repository)
    elif (place / "objects/info/alternates").exists():
        raise EngineError(
            f"the repository in {source} borrows objects from another one, which the copy would not have",
            hint="`git repack -a -d` and then removing .git/objects/info/alternates makes it whole",
        )
    else:
        configuration = copied_configuration(place / "config")
    inner, without = _submodules(source)
    linked += [repository for repository, *_ in inner]
    files = files.union(*(of for _, of, _ in inner))
    ignored = ignored.union(*(of for *_, of in inner))
    note = f"copied without their content, as their repositories do not know them: {', '.join(without)}"
    head = run_git(["rev-parse", "--verify", "-q", "HEAD"], source, codes=(0, 1)).stdout.decode().strip()
    named = run_git(["for-each-ref", "--format=%(objectname)"], source).stdout.decode().split()
    refs = tuple(dict.fromkeys(named))
    return Choice(files, configuration, head or None, refs, note if without else None, tuple(linked), ignored)


def _listed(directory: Path, *options: str, above: str = "") -> frozenset[str]:
    """What git lists there, each with `above` before it. Raises EngineError."""
    listed = run_git(["ls-files", "-z", *options], directory).stdout
    return frozenset(above + os.fsdecode(path).removesuffix("/") for path in listed.split(b"\0") if path)


def never_copied(without: Iterable[str] = (), hide: Iterable[str] = ()) -> Callable[[str], bool]:
    """Whether a path is one of `without`, or hidden, or in a directory that is. Raises EngineError for no pattern."""
    barred = _barred(tuple(without), tuple(hide))
    return lambda path: any(map(barred, (path, *_above(path))))


def _submodules(
    directory: Path, above: str = "", room: int = MOST_SUBMODULES
) -> tuple[list[tuple[Linked, frozenset[str], frozenset[str]]], list[str]]:
    """The repository, the files and what is ignored of each submodule that is checked out, and of those in it; and
    which do not count.

    No git runs in a directory before its repository is known to be its own.
    """
    found, without = list[tuple[Linked, frozenset[str], frozenset[str]]](), list[str]()
    listed = run_git(["ls-files", "-z", "--stage"], directory).stdout
    for entry in listed.split(b"\0"):
        about, _, name = entry.partition(b"\t")
        if not about.startswith(b"160000 "):
            continue
        path = f"{above}/{os.fsdecode(name)}" if above else os.fsdecode(name)
        place = directory / os.fsdecode(name)
        if not os.path.lexists(place / REPOSITORY):
            continue  # it was never checked out
        repository = linked_repository(place, path) if len(found) < room else None
        if repository is None:
            without.append(path)
            continue
        inside, ignored = (_listed(place, *options, above=f"{path}/") for options in (_CHOSEN, _IGNORED))
        found.append((repository, inside, ignored))
        deeper, more = _submodules(place, path, room - len(found))
        found += deeper
        without += more
    return found, without


def _is_within_a_repository(source: Path) -> bool:
    """A directory of a repository has no repository of its own, and yet git ignores files in it."""
    try:
        return run_git(["rev-parse", "--show-toplevel"], source, codes=range(256)).returncode == 0
    except NoGit:
        return False


def _barred(without: tuple[str, ...], hide: tuple[str, ...]) -> Callable[[str], bool]:
    """Whether a name is one of the paths `without`, or below one, or hidden."""
    hidden = _patterns(hide)
    return lambda name: any(name == path or name.startswith(f"{path}/") for path in without) or hidden(name)


def _patterns(hide: tuple[str, ...]) -> Callable[[str], bool]:
    """Whether a name is hidden, as a file or as a directory."""
    if not hide:
        return lambda name: False
    from pathspec import GitIgnoreSpec  # here, since the import takes 40 ms and most copies hide nothing

    try:
        spec = GitIgnoreSpec.from_lines(hide)
    except ValueError as error:
        raise EngineError(f"a mount's `hide`: {error}", exit_code=2) from None
    return lambda name: spec.match_file(name) or spec.match_file(f"{name}/")


def _above(path: str) -> Iterable[str]:
    while "/" in path:
        path = path.rpartition("/")[0]
        yield path
