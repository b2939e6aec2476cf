"""What a mount hides, against root in a real guest: through its kernel."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

from world import World

FILE = """
name: hiding
mounts:
  - {source: ., target: /workspace, hide: [.env, "*.pem", config/*.key, .git/hooks]}
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


def make(project: Path, *names: str) -> None:
    for name in names:
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_text("SECRET\n")


def test_root_in_the_guest_finds_nothing_of_what_is_hidden(world: World) -> None:
    project = world.project(FILE, {"seen": "seen\n", "other": "o\n"}, "hiding/project")
    subprocess.run(["git", "init", "-q", project], check=True)
    make(project, ".env", "deep/a.pem", "config/one.key", ".git/hooks/post-commit", "../docs/private/x")
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
    # git of the guest works beside what it cannot see.
    identity = "-c user.name=n -c user.email=n@example.com"
    script = f"git {identity} add other && git {identity} commit -qm first && git checkout -qb branch && git status -s"
    assert "hooks" not in world.run(project, script).ok().out
    for name in (".env", "deep/a.pem", "config/one.key", ".git/hooks/post-commit"):
        assert (project / name).read_text() == "SECRET\n"
