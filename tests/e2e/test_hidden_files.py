"""What a mount hides and protects, against root in a real guest, beside which git does its work."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

from world import World

FILE = """
name: hiding
mounts:
  - {source: ., target: /workspace, hide: [.env, "*.pem", config/*.key]}
  - {source: ../docs, target: /docs, mode: ro, hide: [private/]}
"""
# Run by root in the guest. Prints what it found out of what is hidden.
LOOK = r"""
import json, os, subprocess
found = []
for top in ("/workspace", "/docs"):
    for above, directories, files in os.walk(top):
        for name in files:
            path = os.path.join(above, name)
            try:
                if b"SECRET" in open(path, "rb").read():
                    found.append(path)
            except OSError:
                pass
os.chdir("/workspace")
tries = {
    "open": lambda: open(".env").read(),
    "stat": lambda: os.stat("deep/a.pem"),
    "other case": lambda: os.stat(".ENV"),
    "make": lambda: open(".env", "w"),
    "make below": lambda: open("config/new.key", "w"),
    "link": lambda: os.link("seen", "x.pem"),
    "rename over": lambda: os.rename("seen", ".env"),
    "rename away": lambda: os.rename(".env", "got"),
    "rename the directory": lambda: os.rename("config", "conf"),
    "remove": lambda: os.unlink(".env"),
    "through a link": lambda: (os.symlink(".env", "link"), open("link").read()),
    "hook": lambda: open(".git/hooks/pre-commit", "w"),
    "hook changed": lambda: open(".git/hooks/post-commit", "a"),
    "hook by rename": lambda: os.rename("seen", ".git/hooks/pre-commit"),
    "hook by link": lambda: os.link(".git/hooks/post-commit", "hook"),
    "configuration": lambda: open(".git/config", "a"),
    "another configuration": lambda: open(".git/commondir", "w"),
    "another repository": lambda: os.rename(".git", ".git2"),
    "tasks": lambda: (os.makedirs(".vscode", exist_ok=True), open(".vscode/tasks.json", "w")),
    "agent": lambda: (os.makedirs(".claude", exist_ok=True), open(".claude/settings.json", "w")),
    "agent by a link": lambda: (os.makedirs("mine", exist_ok=True), os.symlink("mine", ".gemini")),
    "read-only": lambda: os.listdir("/docs/private"),
    "handle": lambda: subprocess.run(["python3", "-c", "import os; os.stat('/proc/self/cwd/.env')"], check=True),
}
for label, work in tries.items():
    try:
        work()
        found.append(label)
    except (OSError, subprocess.CalledProcessError):
        pass
print(json.dumps(found))
"""


# All that agents do with git every day.
GIT_WORKS = """
set -e
export GIT_AUTHOR_NAME=n GIT_AUTHOR_EMAIL=n@example.com GIT_COMMITTER_NAME=n GIT_COMMITTER_EMAIL=n@example.com
git checkout -qb work
git add other && git commit -qm first
git checkout -qb other && echo more >> other && git commit -qam second
git stash list; echo x >> other; git stash -q; git stash pop -q; git checkout -q other -- . || true; git reset -q --hard
git checkout -q work && git merge -q other && git tag v1 && git branch -D other
git clone -q --bare . ~/origin.git
git fetch -q ~/origin.git work && git push -q ~/origin.git work:branch
git worktree add -q ~/tree -b third && git -C ~/tree commit -q --allow-empty -m third && git worktree remove ~/tree
git rebase -q HEAD~1 && git gc -q && git status --short && git fsck
"""
GIT_LOG = b"second\nfirst\n"


def make(project: Path, *names: str) -> None:
    for name in names:
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_text("SECRET\n")


def test_root_in_the_guest_finds_nothing_of_what_is_hidden(world: World) -> None:
    project = world.project(FILE, {"seen": "seen\n", "other": "o\n"}, "hiding/project")
    subprocess.run(["git", "init", "-q", project], check=True)
    make(project, ".env", "deep/a.pem", "config/one.key", "../docs/private/x")
    hook = project / ".git" / "hooks" / "post-commit"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\n")
    (project.parent / "docs" / "page").write_text("page\n")
    if os.geteuid() == 0:
        st = project.stat()
        subprocess.run(["chown", "-R", f"{st.st_uid}:{st.st_gid}", project.parent], check=True)
    world.up(project)

    def look() -> list[str]:
        argv = ["exec", "-i", "-u", "root", "--", "python3", "-"]
        return list(json.loads(world.sandbox(*argv, cwd=project, stdin=LOOK).ok().out))

    assert look() == []
    make(project, "deep/later.pem", "config/later.key", "../docs/private/later")
    (project / "link").unlink(missing_ok=True)
    assert look() == []
    (project / "link").unlink()
    assert world.run(project, "cat seen; ls /docs; ls -A config deep").ok().out.split() == [
        "seen", "page", "config:", "deep:",
    ]  # fmt: skip
    # git of the guest works beside what it cannot see and change.
    configuration = (project / ".git" / "config").read_text()
    world.run(project, GIT_WORKS).ok()
    assert subprocess.run(["git", "-C", project, "log", "--format=%s", "work"], capture_output=True).stdout == GIT_LOG
    for command in (
        "config core.fsmonitor evil",
        "config --unset core.bare",
        "remote add evil x",
        "branch --track=direct x work",
    ):
        assert "Read-only file system" in world.run(project, f"git {command}").err
    assert (project / ".git" / "config").read_text() == configuration
    for name in (".env", "deep/a.pem", "config/one.key", ".git/hooks/post-commit"):
        assert (project / name).read_text() == ("#!/bin/sh\n" if "hooks" in name else "SECRET\n")
