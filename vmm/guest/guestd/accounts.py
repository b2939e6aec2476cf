"""Users of this machine and what their commands find in the environment."""

from __future__ import annotations

import os
import pwd
from typing import Any

from .failure import Failure

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def find_account(user: object) -> tuple[Any, list[int]]:
    """The passwd entry and supplementary groups of a name or uid; without one, of whoever runs guestd."""
    try:
        if user is None or user == "":
            account = pwd.getpwuid(os.geteuid())
        elif isinstance(user, int) or str(user).isdecimal():
            account = pwd.getpwuid(int(str(user)))
        else:
            account = pwd.getpwnam(str(user))
    except KeyError:
        if user is None or user == "":
            return pwd.struct_passwd((str(os.geteuid()), "x", os.geteuid(), os.getegid(), "", "/", "/bin/sh")), []
        raise Failure(f"no user {user!r} in this machine") from None
    if os.geteuid() != 0 and account.pw_uid != os.geteuid():
        raise Failure(f"cannot become {account.pw_name}: guestd does not run as root")
    return account, os.getgrouplist(account.pw_name, account.pw_gid)


def login_environment(account: Any, file: str = "/etc/environment") -> dict[str, str]:
    environment = {
        "HOME": account.pw_dir,
        "USER": account.pw_name,
        "LOGNAME": account.pw_name,
        "SHELL": account.pw_shell or "/bin/sh",
        "PATH": DEFAULT_PATH,
        "LANG": "C.UTF-8",
    }
    if account.pw_uid != 0:  # as a login shell has it: there `pip install --user` and agents put their programs
        environment["PATH"] = f"{account.pw_dir}/.local/bin:{DEFAULT_PATH}"
    try:
        with open(file, encoding="utf-8", errors="surrogateescape") as lines:
            environment |= parse_environment(lines.read())
    except OSError:
        pass
    return environment


def parse_environment(text: str) -> dict[str, str]:
    """The variables of an /etc/environment, read as pam_env does: no expansion, one pair of quotes taken off."""
    found = {}
    for line in text.splitlines():
        name, equals, value = line.strip().removeprefix("export ").partition("=")
        if not equals or name.startswith("#"):
            continue
        value = value.strip()
        if len(value) >= 2 and value[0] == value[-1] and value[0] in "\"'":
            value = value[1:-1]
        found[name.strip()] = value
    return found


def merge_environment(text: str, lines: list[str]) -> str:
    """`text` with the `lines` (NAME=value) put in the place of lines of the same name, or at the end."""
    names = {line.partition("=")[0] for line in lines}
    kept = [line for line in text.splitlines() if line.partition("=")[0].strip() not in names]
    return "".join(f"{line}\n" for line in [*kept, *lines])
