"""What is around the sandbox is as it was: the network, the files beside the mounts, those that are protected."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from engine.attacks.host.check import Check
from engine.attacks.project import HIDDEN
from engine.attacks.trial import Trial

OUTSIDE = {"secret": "the host's\n", "victim": "victim\n", "sub/x": "x\n"}
_PRIVILEGED = ("security.", "trusted.", "system.")


def heard(trial: Trial) -> Iterator[str]:
    lines = trial.stage.heard()
    if lines:
        yield f"{len(lines)} frames were heard that are not the gateway's: {lines[:3]}"


def outside(trial: Trial) -> Iterator[str]:
    found = {}
    for path in sorted(trial.outside.rglob("*")):
        if path.is_symlink() or not path.is_dir():
            found[str(path.relative_to(trial.outside))] = path.read_text() if path.is_file() else "no file"
    if found != OUTSIDE:
        yield f"outside of the mounts there is {found}"
    beside = sorted(path.name for path in trial.beside.iterdir())
    if beside != ["copied", "outside", "project", "raw"]:
        yield f"beside the mounts there is {beside}"


def only_read(trial: Trial) -> Iterator[str]:
    found = {path.name: path.read_text() for path in (trial.project / "kept").iterdir()}
    if found != {"file": "k\n"}:
        yield f"the mount that is only read has {found}"


def deciding(trial: Trial) -> Iterator[str]:
    file = trial.project / "Sandboxfile.yaml"
    if file.is_symlink() or "name: attacked" not in file.read_text() or "evil" in file.read_text():
        yield "the Sandboxfile is not as the host wrote it"
    names = [path.name for path in trial.project.iterdir()]
    if wrong := [name for name in names if name.lower() in ("sandboxfile.local.yaml", "sandboxfile.yml", "evil.yaml")]:
        yield f"the project has {wrong}"


def run_later(trial: Trial) -> Iterator[str]:
    repository = trial.beside / "raw/.git"
    if (repository / "hooks/post-commit").read_text() != "#!/bin/sh\n":
        yield "a hook of the repository was changed"
    hooks = [path.name for path in (repository / "hooks").iterdir() if not path.name.endswith(".sample")]
    if hooks != ["post-commit"]:
        yield f"the repository has the hooks {hooks}"
    if "evil" in (repository / "config").read_text() or repository.is_symlink():
        yield "the configuration of the repository was changed"
    for name in (".vscode/tasks.json", ".claude/settings.json", ".gemini", ".git/hooks"):
        for top in (trial.project, *([trial.beside / "raw"] if "git" not in name else [])):
            if os.path.lexists(top / name):
                yield f"{name} was made in a mount"


def hidden(trial: Trial) -> Iterator[str]:
    for name in ("key.pem", "private/x", ".env"):
        if (trial.beside / "raw" / name).read_text() != f"{HIDDEN}\n":
            yield f"{name}, which is hidden from the guest, was changed"


def harmless(trial: Trial) -> Iterator[str]:
    """What the guest left in the mounts gives nobody on the host a right, and opens nothing."""
    for top in (trial.project, trial.beside / "raw", trial.beside / "copied"):
        for path in top.rglob("*"):
            st = path.lstat()
            if stat.S_ISCHR(st.st_mode) or stat.S_ISBLK(st.st_mode):
                yield f"{path.name} is a device"
            if stat.S_ISREG(st.st_mode) and st.st_mode & (stat.S_ISUID | stat.S_ISGID):
                yield f"{path.name} has a setuid or setgid bit"
            if st.st_uid != top.lstat().st_uid:
                yield f"{path.name} belongs to {st.st_uid}, not to the mount's owner"
            yield from _attributes(path)


def _attributes(path: Path) -> Iterator[str]:
    if path.is_symlink():
        return
    try:
        names = os.listxattr(path, follow_symlinks=False)
    except OSError:
        return
    for name in names:
        if name.startswith(_PRIVILEGED) and name != "security.selinux":
            yield f"{path.name} has the attribute {name}"


CHECKS = (
    Check("network", "what was heard", "No frame came to the host's loopback or its network but the gateway's own connections to allowed hosts.", heard),
    Check("mounts", "files outside", "Outside of the mounts no file was made, changed or removed.", outside),
    Check("mounts", "a read-only mount after all", "The mount that is only read is as the host left it.", only_read),
    Check("mounts", "the deciding files after all", "The files that decide about the sandbox are as the host wrote them.", deciding),
    Check("mounts", "what the host runs, after all", "Hooks, configuration of git, editors' tasks and agents' settings are as the host left them.", run_later),
    Check("mounts", "hidden files after all", "Hidden files are as the host left them.", hidden),
    Check("mounts", "what is left in mounts", "The guest left no device, no setuid bit, no foreign owner and no privileged attribute in a mount.", harmless),
)  # fmt: skip
