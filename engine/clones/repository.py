"""What of a repository is copied into a clone: without hooks, without locks, and with a configuration of its own."""

from __future__ import annotations

import re
from configparser import Error as ConfigError
from configparser import RawConfigParser
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

REPOSITORY = ".git"
_TAKEN = ("HEAD", "packed-refs", "index", "shallow", "info/exclude", "objects", "refs", "ORIG_HEAD")
_PASSING = re.compile(r"(^|/)(tmp_[^/]*|[^/]*\.lock|gc\.pid)$")
# In the copy: git compares files by size and second of change only, as owners and inodes are others than here.
_SETTINGS = (
    "[core]\n\trepositoryformatversion = {version}\n\tbare = false\n\tcheckStat = minimal\n\ttrustctime = false\n"
)


def is_of_repository(name: str) -> bool:
    """Whether a path in a git directory comes along, or leads to what does."""
    inside = any(name == path or name.startswith(f"{path}/") or path.startswith(f"{name}/") for path in _TAKEN)
    return not _PASSING.search(name) and inside and name != "objects/info/alternates"


def copied_configuration(path: Path) -> str:
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
