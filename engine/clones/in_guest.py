"""Runs in the guest, as root: what differs from the base of a clone. Standard library only.

Its source is sent to the guest's Python (`engine/clones/changes.py`). It is given the clone's directory, the path of
the base's manifest, and whether what git ignores is left out ("yes"). It prints a tar: the member `changes.json`,
{"changed": [paths], "gone": [paths]}, and then each changed file or link as `files/PATH`. What is ignored counts only
where the base has it.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import stat
import subprocess
import sys
import tarfile
import tempfile

GIT = ["git", "-c", "core.fsmonitor=false", "-c", "safe.directory=*"]
MOST_DEPTH = 20  # of submodules in submodules
LIST = ["ls-files", "-z", "-co", "--exclude-standard"]


def main(root: str, manifest: str, ignores: str) -> None:
    with open(manifest) as file:  # noqa: PTH123
        base = json.load(file)
    os.chdir(root)
    changed, gone = compare(base, sorted({*base, *listed(ignores == "yes")}))
    with tarfile.open(fileobj=sys.stdout.buffer, mode="w|", format=tarfile.PAX_FORMAT) as tar:
        told = json.dumps({"changed": changed, "gone": gone}).encode()
        member = tarfile.TarInfo("changes.json")
        member.size = len(told)
        tar.addfile(member, io.BytesIO(told))
        for path in changed:
            try:
                add(tar, path)
            except FileNotFoundError:  # gone in the meantime
                continue


def listed(ignores: bool) -> list[str]:
    """The files of the clone: without what git ignores, if that was not copied either."""
    if not ignores:
        return walk(".")
    try:
        ran = subprocess.run([*GIT, *LIST], capture_output=True)
        if ran.returncode != 0:  # the copy has no repository: an empty one knows as well what is ignored
            with tempfile.TemporaryDirectory() as place:
                subprocess.run([*GIT, "init", "-q", "--bare", place], capture_output=True, check=True)
                where = [f"--git-dir={place}", "--work-tree=."]
                ran = subprocess.run([*GIT, *where, *LIST], capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return walk(".")
    found = [os.fsdecode(path) for path in ran.stdout.split(b"\0") if path]
    return [inner for path in found for inner in within(path)]


def within(path: str, depth: int = 0) -> list[str]:
    """A repository within is one entry, and its files are files of the clone all the same."""
    if path.endswith("/"):
        return walk(path)
    if not os.path.isdir(path) or os.path.islink(path):  # noqa: PTH112, PTH114
        return [path]
    # A submodule, which has a repository of its own in the copy.
    ran = subprocess.run([*GIT, "-C", path, *LIST], capture_output=True)
    if ran.returncode != 0 or depth > MOST_DEPTH or not os.path.lexists(os.path.join(path, ".git")):  # noqa: PTH118
        return walk(path)
    found = [os.path.join(path, os.fsdecode(one)) for one in ran.stdout.split(b"\0") if one]  # noqa: PTH118
    return [inner for one in found for inner in within(one, depth + 1)]


def walk(directory: str) -> list[str]:
    found: list[str] = []
    for where, directories, files in os.walk(directory):
        directories[:] = [name for name in directories if name != ".git"]
        links = [name for name in directories if os.path.islink(os.path.join(where, name))]  # noqa: PTH114, PTH118
        found += [os.path.relpath(os.path.join(where, name)) for name in (*files, *links)]  # noqa: PTH118
    return found


def compare(base: dict[str, list[object]], paths: list[str]) -> tuple[list[str], list[str]]:
    changed, gone = [], []
    for path in paths:
        try:
            status = os.lstat(path)
        except OSError:
            status = None
        if status is None or not (stat.S_ISREG(status.st_mode) or stat.S_ISLNK(status.st_mode)):
            gone += [path] if path in base else []
        elif differs(path, status, base.get(path)):
            changed.append(path)
    return changed, gone


def differs(path: str, status: os.stat_result, before: list[object] | None) -> bool:
    if before is None:
        return True
    executable, digest, size, mtime_ns, target = before
    if stat.S_ISLNK(status.st_mode):
        return os.readlink(path) != target  # noqa: PTH115
    if target is not None or bool(status.st_mode & 0o100) != executable or status.st_size != size:
        return True
    # As rsync and git do: a file of the same size and time is the same file.
    return status.st_mtime_ns // 1000 != int(str(mtime_ns)) // 1000 and digest_of(path, status.st_size) != digest


def digest_of(path: str, size: int) -> str:
    digest = hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)
    with open(path, "rb") as file:  # noqa: PTH123
        while block := file.read(1 << 18):
            digest.update(block)
    return digest.hexdigest()


def add(tar: tarfile.TarFile, path: str) -> None:
    member = tar.gettarinfo(path, f"files/{path}")
    if member.islnk():  # a second name of a file that is there already
        member.type, member.size = tarfile.REGTYPE, os.lstat(path).st_size
    if member.isreg():
        with open(path, "rb") as file:  # noqa: PTH123
            tar.addfile(member, file)
    else:
        tar.addfile(member)


if __name__ == "__main__":
    main(*sys.argv[1:])
