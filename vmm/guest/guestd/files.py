"""Writing the machine's own files, and our part of files that are not ours alone."""

from __future__ import annotations

import grp
import os
import pwd
import stat

BEGIN, END = b"<!-- sandbox: begin -->\n", b"<!-- sandbox: end -->\n"
MOST_BYTES = 1 << 20  # of a file that is not ours alone


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


def with_part(path: str, content: bytes) -> bytes | None:
    """The file's content with our part in the place of what was ours before, at the end where there was none.

    Without content our part goes away. None where nothing is to be written: the file is no regular one, or too long, or
    there is nothing of ours in it.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return BEGIN + content + END if content else None
    except OSError:
        return None
    with open(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_size > MOST_BYTES:
            return None
        old = file.read(MOST_BYTES + 1)
    before, begin, rest = old.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        before, after = old, b""
        if not content:
            return None
        before += b"" if not before or before.endswith(b"\n\n") else b"\n" if before.endswith(b"\n") else b"\n\n"
    return before + (BEGIN + content + END if content else b"") + after
