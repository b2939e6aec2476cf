"""The fake supervisor's guest with a user `agent` and Debian's sshd: `ssh_guest.py OPENSSH DIRECTORY NAME PROJECT`.

Runs in a mount namespace of its own, in which the files that say who and what there is are this one's: OPENSSH is a
tree of scripts/openssh.sh. The user `agent` is that of the tests, or one of its own where the tests are root's.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import fake_supervisor

AGENT = os.geteuid() or 4242


def furnish(openssh: Path, directory: Path) -> None:
    """What the guest's image has: the account, the program and its environment."""
    home = directory / "home"
    home.mkdir(exist_ok=True)
    temporary = directory / "tmp"
    temporary.mkdir(exist_ok=True)
    os.chown(home, AGENT, -1)
    os.chown(temporary, AGENT, -1)
    root = Path("/etc/passwd").read_text() if os.geteuid() == 0 else ""
    libraries = ":".join(str(path) for path in openssh.glob("usr/lib/*-linux-gnu"))
    lines = [f"PATH={openssh}/usr/sbin:/usr/bin:/bin", f"LD_LIBRARY_PATH={libraries}", f"TMPDIR={temporary}"]
    lines += ['SAID="with \\ and spaces"']
    etc = {
        "passwd": f"agent:x:{AGENT}:{os.getegid()}::{home}:/bin/sh\n{root}",
        "group": f"agent:x:{os.getegid()}:\n",  # without `tty`, whose terminals an ordinary user could not make here
        "environment": "\n".join(lines) + "\n",
    }
    for name, text in etc.items():
        (directory / name).write_text(text)
        bind(directory / name, f"/etc/{name}")
    bind(openssh / "usr/lib/openssh", "/usr/lib/openssh")


def bind(source: Path, target: str) -> None:
    subprocess.run(["mount", "--bind", source, target], check=True)


if __name__ == "__main__":
    furnish(Path(sys.argv[1]), Path(sys.argv[2]))
    sys.argv[1:3] = []
    fake_supervisor.main()
