"""Writing the machine's own files."""

from __future__ import annotations

import grp
import os
import pwd


def write_file(path: str, content: bytes, mode: int, owner: str | int | None = None) -> None:
    """Replace the file as a whole; a reader sees the old or the new one. Missing parents are made, owned alike."""
    uid = gid = -1
    if owner is not None:
        user, _, group = str(owner).partition(":")
        account = pwd.getpwuid(int(user)) if user.isdecimal() and not group else None
        if user.isdecimal() and group:
            uid = int(user)
        else:
            account = account or pwd.getpwnam(user)
            uid, gid = account.pw_uid, account.pw_gid
        if group:
            gid = int(group) if group.isdecimal() else grp.getgrnam(group).gr_gid
    parent = os.path.dirname(path) or "."
    missing = []
    while not os.path.isdir(parent):
        missing.append(parent)
        parent = os.path.dirname(parent)
    for directory in reversed(missing):
        os.mkdir(directory, 0o755)
        os.chown(directory, uid, gid)
    # Hidden: dnsmasq reads every other file that appears in its directory.
    temporary = os.path.join(parent, f".{os.path.basename(path)}.{os.getpid()}.new")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with open(descriptor, "wb") as file:
            os.fchown(descriptor, uid, gid)
            os.fchmod(descriptor, mode)
            file.write(content)
        os.replace(temporary, path)
    except BaseException:
        if os.path.lexists(temporary):
            os.unlink(temporary)
        raise
