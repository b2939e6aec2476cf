"""Traps in the private copy, for what `sandbox diff`, `apply`, `pull` and `cp` do with it on the host.

All traps are set at once, since every command costs; each has a marker of its own, so each has its own verdict.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import stat
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from engine.attacks.host.check import Check
from engine.attacks.project import git
from engine.attacks.trial import Trial

# RUN is a program that leaves a marker on the host, OUT the directory outside of the mounts.
_TRAPS = {
    "a hook": "mkdir -p .git/hooks; for h in post-checkout post-merge pre-commit reference-transaction post-index-change post-applypatch; do"
    " printf '#!/bin/sh\\nRUN\\n' > .git/hooks/$h; chmod +x .git/hooks/$h; done",
    "a monitor": "git config core.fsmonitor 'RUN'",
    "a filter": "git config filter.x.clean 'RUN; cat'; git config filter.x.smudge 'RUN; cat'; echo '* filter=x diff=x' > .gitattributes",
    "a program for differences": "git config diff.external 'RUN'; git config diff.x.textconv 'RUN'; git config diff.x.command 'RUN'",
    "an ssh of its own": "git config core.sshCommand 'RUN'; git config remote.origin.uploadpack 'RUN'; git config uploadpack.packObjectsHook 'RUN'",
    "hooks elsewhere": "mkdir -p mine; printf '#!/bin/sh\\nRUN\\n' > mine/post-checkout; chmod +x mine/post-checkout; git config core.hooksPath mine",
    "included configuration": "printf '[core]\\n\\tpager = RUN\\n\\teditor = RUN\\n[alias]\\n\\tdiff = !RUN\\n' > mine/config; git config include.path ../mine/config",
    "a submodule": "printf '[submodule \"s\"]\\n\\tpath = s\\n\\turl = ext::sh -c RUN\\n\\tupdate = !RUN\\n' > .gitmodules; git config protocol.ext.allow always",
    "a repository inside": "git init -q inner; printf '#!/bin/sh\\nRUN\\n' > inner/.git/hooks/post-checkout; git -C inner config core.fsmonitor 'RUN'",
    "a merge driver": "git config merge.x.driver 'RUN'; git config merge.default x",
    "signatures": "git config gpg.program 'RUN'; git config commit.gpgsign true; git config log.showSignature true",
}  # fmt: skip
_WRITES = {
    "a link out": "ln -s OUT leads-out; ln -s OUT/victim leads-to-file",
    "a directory that became a link": "rm -rf d; ln -s OUT d",
    "a file through a link": "ln -s OUT door; mkdir -p real; echo x > real/f",
    "another spelling of .git": "mkdir -p .GIT .Git 'git~1' '.git ' '.git.'; for n in .GIT .Git 'git~1' '.git ' '.git.'; do echo '[core] fsmonitor = RUN' > \"$n/config\"; done",
    "names that control a terminal": "for n in \"$(printf 'esc\\033]52;c;QUFB\\007')\" \"$(printf 'line\\nbreak')\" \"$(printf 'left\\342\\200\\256right')\"; do date +%s%N > \"$n\"; done",
    "a FIFO and a device": "mkfifo fifo; mknod null c 1 3; mknod disk b 254 0",
    "setuid": "cp /bin/true setuid; chmod 6755 setuid",
}  # fmt: skip
# A commit on a branch of its own, which HEAD is put on: `pull` takes that. No git makes the trees of _EVIL out of files;
# `mktree` writes them, well-formed, so that they can be packed.
_COMMIT = """
blob=$(echo '[core] fsmonitor = RUN' | git hash-object -w --stdin)
inner=$(printf "100644 blob $blob\\tconfig\\n" | git mktree)
tree=$(printf "ENTRY\\n" | git mktree)
git update-ref refs/heads/NAME $(echo NAME | git commit-tree $tree -p main)
git symbolic-ref HEAD refs/heads/NAME
"""
_GOOD = _COMMIT.replace("ENTRY", "100644 blob $blob\\tcommitted.txt").replace("NAME", "proper")
_EVIL = {
    name: _COMMIT.replace("ENTRY", f"040000 tree $inner\\t{entry}").replace("NAME", name)
    for name, entry in (("dotgit", ".git"), ("dotdot", ".."))
}
_REFUSAL = re.compile(r"fsck error|hasDotgit|hasDotdot")
NOT_SET = "not set:"
_PROPER = "echo proper $(date +%s%N) > proper.txt"  # in each state another one: what was applied is no change any more
_AS_ROOT = (
    "cd /copied; export HOME=/root GIT_AUTHOR_NAME=g GIT_AUTHOR_EMAIL=g@l GIT_COMMITTER_NAME=g GIT_COMMITTER_EMAIL=g@l"
)
_COMMANDS = (
    ("diff",), ("diff", "--stat"), ("apply", "--check"), ("pull", "--branch", "pulled"), ("apply",),
    ("apply", "proper.txt"),
)  # fmt: skip


def outputs(trial: Trial) -> str:
    """What the commands printed; the first check that asks sets the traps."""
    if "tools" not in trial.notes:
        trial.notes["tools"] = set_traps(trial)
    return trial.notes["tools"]


def set_traps(trial: Trial) -> str:
    """Plant all of them, run the host's commands over them, and return what those printed."""
    _clean(trial)
    lines = [_AS_ROOT, f"chown -R root: /copied; {_PROPER}"]
    for number, (name, trap) in enumerate(_TRAPS.items()):
        lines.append(_setting(name, trap.replace("RUN", f"touch {trial.outside}/ran-{number}")))
    lines += [_setting(name, trap) for name, trap in (*_WRITES.items(), ("a proper commit", _GOOD))]
    script = "\n".join(lines).replace("RUN", f"touch {trial.outside}/ran").replace("OUT", str(trial.outside))
    trial.notes["not set"] = trial.root("sh -s", stdin=script).ok().out
    ran = [trial.call(*command) for command in _COMMANDS]
    return "".join(one.out + one.err + ("" if one.code is not None else "\nno end\n") for one in ran)


def _clean(trial: Trial) -> None:
    """What the commands have brought in an earlier state is taken away on the host's side."""
    copied = trial.beside / "copied"
    git(copied, "reset", "-q", "--hard")
    git(copied, "clean", "-qfdx")
    for branch in git(copied, "branch", "--list", "--format", "%(refname:short)", "pulled*").split():
        git(copied, "branch", "-qD", branch)


def _setting(name: str, trap: str) -> str:
    """The lines that set it, and say its name if any of it failed: a trap that is not there springs on nobody."""
    return f"( set -e\n{trap}\n)\n[ $? = 0 ] || echo '{NOT_SET} {name}.'"


def not_set(trial: Trial, *names: str) -> Iterator[str]:
    """A complaint for each of these traps that the guest could not set."""
    for name in names:
        if f"{NOT_SET} {name}." in trial.notes.get("not set", ""):
            yield f"the trap {name!r} could not be set"


def trapped(number: int, trial: Trial) -> Iterator[str]:
    outputs(trial)
    yield from not_set(trial, [*_TRAPS][number])
    marker = trial.outside / f"ran-{number}"
    if marker.exists():
        marker.unlink()
        yield "a program that the guest named ran on the host"


def written(trial: Trial) -> Iterator[str]:
    """Nothing of the copy was written where it does not belong."""
    outputs(trial)
    yield from not_set(trial, "a link out", "a directory that became a link", "a file through a link")
    copied = trial.beside / "copied"
    for path in copied.rglob("*"):
        if path.is_symlink() and not path.resolve().is_relative_to(copied.resolve()):
            yield f"{path.name} leads out of the project"
    if (copied / "d").is_symlink():
        yield "a directory was replaced by a link"


def repository(trial: Trial) -> Iterator[str]:
    outputs(trial)
    yield from not_set(trial, "another spelling of .git")
    copied = trial.beside / "copied"
    if "touch" in (copied / ".git/config").read_text():
        yield "the guest's configuration is in the repository of the host"
    hooks = [path.name for path in (copied / ".git/hooks").iterdir() if not path.name.endswith(".sample")]
    if hooks:
        yield f"the repository of the host has the hooks {hooks}"
    for name in (".GIT", ".Git", "git~1", ".git ", ".git.", "inner/.git"):
        if os.path.lexists(copied / name):
            yield f"{name!r} was written"


def special(trial: Trial) -> Iterator[str]:
    outputs(trial)
    yield from not_set(trial, "a FIFO and a device", "setuid")
    for path in (trial.beside / "copied").rglob("*"):
        mode = path.lstat().st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode) or stat.S_ISLNK(mode)):
            yield f"{path.name} is a device or a FIFO"
        if stat.S_ISREG(mode) and mode & (stat.S_ISUID | stat.S_ISGID):
            yield f"{path.name} has a setuid or setgid bit"


def terminal(trial: Trial) -> Iterator[str]:
    text = outputs(trial)
    yield from not_set(trial, "names that control a terminal")
    if controls := sorted(
        {letter for letter in text if (ord(letter) < 32 and letter not in "\n\t") or letter in "\x7f\u202e"}
    ):
        yield f"the commands print the control characters {controls}"
    if "esc" not in text:
        yield "the control: the commands do not show the name at all"
    if "no end" in text:
        yield "a command did not end"


def commits(trial: Trial) -> Iterator[str]:
    """`pull` takes a proper commit, and none whose tree git would write as a repository, or above it: git refuses it."""
    text = outputs(trial)
    yield from not_set(trial, "a proper commit")
    branches = trial.beside / "copied/.git/refs/heads"
    if not (branches / "pulled").exists():
        yield f"the control: a proper commit was not pulled: {text[-300:]!r}"
    for name, commit in _EVIL.items():
        script = "\n".join([_AS_ROOT, _setting(name, commit)])
        made = trial.root("sh -s", stdin=script).ok()
        if NOT_SET in made.out:
            yield f"the commit {name} could not be made: {made.err[-300:]!r}"
        ran = trial.call("pull", "--branch", f"pulled-{name}")
        if (branches / f"pulled-{name}").exists():
            yield f"the commit {name}, with a tree that no git makes, became a branch"
        elif not _REFUSAL.search(ran.out + ran.err):
            yield f"the host's git did not refuse the commit {name}; `pull` says {(ran.out + ran.err)[-300:]!r}"


def still_works(trial: Trial) -> Iterator[str]:
    """The control: a proper file comes over in spite of all that."""
    text = outputs(trial)
    path = trial.beside / "copied/proper.txt"
    if not path.exists() or not path.read_text().startswith("proper "):
        yield f"the control: a proper file was not applied: {text[-300:]!r}"


# `sandbox cp`: the guest's tar is replaced by one that lies.
_LYING_TAR = """
import io, sys, tarfile
what, out = sys.argv[1], sys.argv[2]
def member(name, kind=tarfile.REGTYPE, link="", mode=0o644, size=0):
    info = tarfile.TarInfo(name); info.type, info.linkname, info.mode, info.size = kind, link, mode, size
    return info
archive, data = io.BytesIO(), b"evil\\n"
def put(info, content=b""):
    archive.write(info.tobuf(tarfile.USTAR_FORMAT) + content + bytes(-len(content) % 512))
put(member("d", tarfile.DIRTYPE, mode=0o755))
if what == "absolute": put(member(f"{out}/evil", size=5), data)
if what == "dots": put(member("d/../../outside/evil", size=5), data); put(member("../outside/evil2", size=5), data)
if what == "link": put(member("d/l", tarfile.SYMTYPE, out)); put(member("d/l/evil", size=5), data)
if what == "hard": put(member("d/h", tarfile.LNKTYPE, f"{out}/victim")); put(member("d/h", size=5), data)
if what == "device": put(member("d/null", tarfile.CHRTYPE)); put(member("d/fifo", tarfile.FIFOTYPE))
if what == "setuid": put(member("d/s", mode=0o6755, size=5), data)
if what == "long": put(member("d/x", size=1 << 32), data * 1000)
if what == "deep": [put(member("d/" + "/".join("x" * n), tarfile.DIRTYPE, mode=0o755)) for n in range(1, 60)]
if what == "pax": archive.write((member("p", b"g", size=512).tobuf(tarfile.USTAR_FORMAT) + bytes(512)) * 30000)
if what == "noise": archive.write(bytes(range(256)) * 4000)
sys.stdout.buffer.write(archive.getvalue() + bytes(1024))
"""
_LYING = {
    "an absolute name": "absolute", "dots": "dots", "through a link": "link", "a hard link": "hard",
    "a device": "device", "setuid": "setuid", "a size that lies": "long", "very deep": "deep",
    "headers without end": "pax", "no archive": "noise",
}  # fmt: skip
_REPLACE = """
mkdir -p /run/tar /d; cat > /run/tar/lying.py
[ -e /run/tar/real ] || cp /usr/bin/tar /run/tar/real
printf '#!/bin/sh\\ntouch /run/tar/used\\nexec python3 /run/tar/lying.py "$(cat /run/tar/what)" "$(cat /run/tar/out)"\\n' > /run/tar/tar; chmod 755 /run/tar/tar
rm -f /run/tar/used; echo WHAT > /run/tar/what; echo OUT > /run/tar/out
findmnt /usr/bin/tar > /dev/null || mount --bind /run/tar/tar /usr/bin/tar
"""
USED = "it was used"
_PUT_BACK = f"umount /usr/bin/tar 2>/dev/null; [ -e /run/tar/used ] && echo {USED}; true"


def lying_archive(what: str, trial: Trial) -> Iterator[str]:
    target = Path(tempfile.mkdtemp(prefix=f"{what}-", dir=trial.room.base))
    script = _REPLACE.replace("WHAT", what).replace("OUT", str(trial.outside))
    trial.root(script, stdin=_LYING_TAR).ok()
    try:
        ran = trial.call("cp", f"{trial.name}:/d", str(target / "here"), timeout_s=60)
    finally:
        put_back = trial.root(_PUT_BACK)
    if USED not in put_back.out:
        yield f"`cp` did not ask the program that lies: {(ran.out + ran.err)[-300:]!r}"
    if ran.code is None:
        yield "`cp` did not end within a minute"
    if ran.code == 3 or "Traceback" in ran.err:
        yield f"`cp` ended as by a bug: {ran.err[-300:]!r}"
    for path in target.rglob("*"):
        mode = path.lstat().st_mode
        bad = stat.S_ISCHR(mode) or stat.S_ISBLK(mode) or (stat.S_ISREG(mode) and mode & (stat.S_ISUID | stat.S_ISGID))
        if bad:
            yield f"{path.name} was made with the mode {mode:o}"
        with contextlib.suppress(OSError):
            if path.is_file() and path.stat().st_nlink > 1:
                yield f"{path.name} is a hard link"
    if victim := (trial.outside / "victim").read_text() != "victim\n" or [*trial.outside.glob("evil*")]:
        yield f"outside of the target something was written: {victim}"


def shown(trial: Trial) -> Iterator[str]:
    """What the guest may call itself, and ask for, controls no terminal in what our commands print."""
    hosts = ["esc\x1b]52;c;QUFB\x07.example", "title\x1b]0;x\x07.example", "c1\x9b2J.example"]
    program = "import json,sys,socket\nfor host in json.load(sys.stdin):\n    c = socket.create_connection(('10.0.2.100', 80), 9)\n    c.sendall(b'GET /\\x1b]52;c;QUFB\\x07 HTTP/1.1\\r\\nHost: ' + host.encode('latin-1') + b'\\r\\nUser-Agent: \\x1b[2J\\r\\n\\r\\n')\n    c.recv(9)\n"
    argv = ("exec", "-i", "-u", "root", "--", "python3", "-c", program)
    trial.call(*argv, stdin=json.dumps(hosts)).ok()
    trial.root(
        "hostname \"$(printf 'a\\033]0;x\\007')\" 2>/dev/null; printf '\\033]52;c;QUFB\\007' > /dev/hvc0 2>/dev/null; true"
    )
    for command in (("journal",), ("ls",), ("stats",), ("endpoints",), ("plan",)):
        ran = trial.call(*command, timeout_s=60)
        text = ran.out + ran.err
        if controls := sorted({letter for letter in text if ord(letter) in range(32) and letter not in "\n\t\r"}):
            yield f"`{command[0]}` prints the control characters {controls}"


def _check(kind: str, claim: str, look: Callable[[Trial], Iterator[str]], variant: str = "") -> Check:
    return Check("host tools", kind, claim, look, variant=variant)


CHECKS = (
    *(
        _check(f"git: {kind}", "The host's git runs no program that the guest's repository names.", partial(trapped, number))
        for number, kind in enumerate(_TRAPS)
    ),
    _check("links in the copy", "No link that leads out comes over, and nothing is written through one.", written),
    _check("spellings of .git", "No hook, no configuration and no other spelling of `.git` comes over.", repository),
    _check("devices and setuid", "No device, no FIFO and no setuid bit comes over.", special),
    _check("names in a terminal", "Names in the copy control no terminal: `diff`, `apply` and `pull` print none as it is.", terminal),
    _check("a tree with a .git", "A commit whose tree holds a `.git`, or `..`, becomes no branch: the host's git refuses it, and takes a proper one.", commits),
    _check("a proper file", "The control: in spite of the traps a proper file comes over.", still_works),
    *(
        _check("cp", "An archive that lies writes below its target alone, and `cp` ends with a word.", partial(lying_archive, what), kind)
        for kind, what in _LYING.items()
    ),
    _check("journal, ls, stats, endpoints", "No word of the guest controls the terminal of who looks.", shown),
)  # fmt: skip
