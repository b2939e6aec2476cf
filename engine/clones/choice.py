"""Which files of a directory are copied into a clone.

In a git repository: those that git tracks, and those that it neither tracks nor ignores. Elsewhere: all. The repository
comes along without what belongs to this host: hooks, the configuration, which may hold credentials, and locks.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable
from configparser import Error as ConfigError
from configparser import RawConfigParser
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from engine.clones.git import NoGit, run_git
from engine.errors import EngineError
from vmm.walk import LeaveOut

REPOSITORY = ".git"
_TAKEN = ("HEAD", "packed-refs", "index", "shallow", "info/exclude", "objects", "refs", "ORIG_HEAD")
_PASSING = re.compile(r"(^|/)(tmp_[^/]*|[^/]*\.lock|gc\.pid)$")
# In the copy: git compares files by size and second of change only, as owners and inodes are others than here.
_SETTINGS = (
    "[core]\n\trepositoryformatversion = {version}\n\tbare = false\n\tcheckStat = minimal\n\ttrustctime = false\n"
)


@dataclass(frozen=True)
class Choice:
    """`files` are the chosen paths, None for all. `configuration` is the copy's .git/config, None without a repository.
    `head` is the commit that is checked out, `refs` are all that have a name. `note` says what does not come along."""

    files: frozenset[str] | None
    configuration: str | None = None
    head: str | None = None
    refs: tuple[str, ...] = ()
    note: str | None = None

    def leave_out(self, without: Iterable[str] = (), hide: Iterable[str] = ()) -> LeaveOut:
        """What a walk of the directory leaves out.

        `without` are paths, and `hide` patterns of .gitignore, that are left out in any case. Raises EngineError for
        what is no pattern.
        """
        hidden = _patterns(tuple(hide))
        kept = None if self.files is None else self.files | {up for path in self.files for up in _above(path)}
        barred = tuple(without)

        def judge(name: str, with_all_below: bool) -> bool:
            if any(name == path or name.startswith(f"{path}/") for path in barred) or hidden(name):
                return True
            if name == REPOSITORY:
                return self.configuration is None
            if name.startswith(f"{REPOSITORY}/"):
                return self.configuration is None or not _of_repository(name.removeprefix(f"{REPOSITORY}/"))
            return kept is not None and name not in kept

        return judge


def choose_files(source: Path) -> Choice:
    """Look at the directory. Raises EngineError for a repository that cannot be copied."""
    place = source / REPOSITORY
    if not place.exists() and not _is_within_a_repository(source):
        return Choice(None)
    try:
        listed = run_git(["ls-files", "-z", "--cached", "--others", "--exclude-standard"], source).stdout
    except NoGit:
        return Choice(None, note="git is not installed on this host: all files are copied, and no repository")
    files = frozenset(os.fsdecode(path) for path in listed.split(b"\0") if path)
    if place.is_symlink() or not place.is_dir():
        return Choice(files, note="the repository is in another directory: the files are copied without it")
    if (place / "objects/info/alternates").exists():
        raise EngineError(
            f"the repository in {source} borrows objects from another one, which the copy would not have",
            hint="`git repack -a -d` and then removing .git/objects/info/alternates makes it whole",
        )
    head = run_git(["rev-parse", "--verify", "-q", "HEAD"], source, codes=(0, 1)).stdout.decode().strip()
    named = run_git(["for-each-ref", "--format=%(objectname)"], source).stdout.decode().split()
    return Choice(files, _configuration(place / "config"), head or None, tuple(dict.fromkeys(named)))


def _is_within_a_repository(source: Path) -> bool:
    """A directory of a repository has no repository of its own, and yet git ignores files in it."""
    try:
        return run_git(["rev-parse", "--show-toplevel"], source, codes=range(256)).returncode == 0
    except NoGit:
        return False


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


def _of_repository(name: str) -> bool:
    inside = any(name == path or name.startswith(f"{path}/") or path.startswith(f"{name}/") for path in _TAKEN)
    return not _PASSING.search(name) and inside and name != "objects/info/alternates"


def _configuration(path: Path) -> str:
    """The copy's configuration: format and remotes of the original, and none of its credentials or commands."""
    parser = RawConfigParser(strict=False, allow_no_value=True, interpolation=None, delimiters=("=",))
    try:
        lines = (line.strip() for line in path.read_text(errors="replace").splitlines())
        parser.read_string("\n".join(lines))
    except (OSError, ConfigError):  # a file that only git understands: no remotes then
        parser = RawConfigParser()
    version = parser.get("core", "repositoryformatversion", fallback="0")
    text = _SETTINGS.format(version=version if version in ("0", "1") else "0")
    if (form := parser.get("extensions", "objectformat", fallback="")) in ("sha1", "sha256"):
        text += f"[extensions]\n\tobjectFormat = {form}\n"
    for section in parser.sections():
        name = re.fullmatch(r'remote "([A-Za-z0-9._/-]+)"', section)
        url = _without_credentials(parser.get(section, "url", fallback="") or "")
        if name and url:
            fetch = f"+refs/heads/*:refs/remotes/{name[1]}/*"
            text += f'[remote "{name[1]}"]\n\turl = {url}\n\tfetch = {fetch}\n'
    return text


def _without_credentials(url: str) -> str:
    """The URL without a user's name and password; "" for one that has no place in a configuration."""
    if not url.isprintable() or any(character in url for character in '"\\;#') or url.startswith("-"):
        return ""
    try:
        parts = urlsplit(url)
    except ValueError:
        return ""
    if not parts.netloc:
        return url  # a path, or user@host:path
    user, _, host = parts.netloc.rpartition("@")
    keeps_user = parts.scheme == "ssh" and user and ":" not in user  # whom to log in as is no secret
    return urlunsplit(parts._replace(netloc=f"{user}@{host}" if keeps_user else host, query="", fragment=""))
