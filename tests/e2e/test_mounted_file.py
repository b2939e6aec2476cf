"""A single file as the source of a mount: both sides edit it, and root in the guest gets at nothing beside it."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

from world import World

FILE = """
name: files
mounts:
  - .:/workspace
  - {source: ../settings/app.toml, target: /home/agent/.config/app/app.toml}
  - {source: ../settings/fixed.toml, target: /etc/fixed.toml, mode: ro}
"""
# Run by root in the guest. Prints what succeeded.
ATTACK = r"""
import json, os, subprocess
os.makedirs("/mnt/x", exist_ok=True)
found = []
for tag, name in (("mount1", "app.toml"), ("mount2", "fixed.toml")):
    subprocess.run(["mount", "-t", "virtiofs", tag, "/mnt/x"], check=True)
    if os.listdir("/mnt/x") != [name]:
        found.append(f"{tag} lists {os.listdir('/mnt/x')}")
    at = "/mnt/x/" + name
    tries = {
        "beside": lambda: open("/mnt/x/secret").read(),
        "make": lambda: open("/mnt/x/new", "w"),
        "remove": lambda: os.unlink(at),
        "rename": lambda: os.rename(at, "/mnt/x/other"),
        "link": lambda: os.link(at, "/mnt/x/other"),
        "symlink": lambda: os.symlink("/etc/passwd", "/mnt/x/other"),
        "mkdir": lambda: os.mkdir("/mnt/x/directory"),
    }
    if tag == "mount2":
        tries |= {"write": lambda: open(at, "a"), "mode": lambda: os.chmod(at, 0o777)}
        tries |= {"cut": lambda: os.truncate(at, 0)}
    for label, work in tries.items():
        try:
            work()
            found.append(f"{tag}: {label}")
        except OSError:
            pass
    subprocess.run(["umount", "/mnt/x"], check=True)
print(json.dumps(found))
"""


def save(path: Path, text: str) -> None:
    """As editors do it: a new file takes the name."""
    new = path.with_name(path.name + "~")
    new.write_text(text)
    if os.geteuid() == 0:
        os.chown(new, path.stat().st_uid, path.stat().st_gid)
    new.replace(path)


def test_both_sides_edit_one_file(world: World) -> None:
    project = world.project(FILE, {"file": "x\n"}, "files/project")
    settings = project.parent / "settings"
    settings.mkdir()
    for name in ("app.toml", "fixed.toml", "secret"):
        (settings / name).write_text(f"{name} first\n")
    if os.geteuid() == 0:
        st = project.stat()
        subprocess.run(["chown", "-R", f"{st.st_uid}:{st.st_gid}", project.parent], check=True)
    world.up(project)
    both = "cat ~/.config/app/app.toml /etc/fixed.toml"
    assert world.run(project, both).ok().out == "app.toml first\nfixed.toml first\n"
    assert world.run(project, "stat -c %U ~/.config ~/.config/app; cd ~/.config/app; ls -A").ok().out.split() == [
        "agent", "agent", "app.toml",
    ]  # fmt: skip
    for number in range(3):
        save(settings / "app.toml", f"host {number}\n" * (number + 1))
        save(settings / "fixed.toml", f"fixed {number}\n")
        assert world.run(project, both).ok().out == f"host {number}\n" * (number + 1) + f"fixed {number}\n"
        world.run(project, f"echo guest {number} >> ~/.config/app/app.toml").ok()
        assert (settings / "app.toml").read_text() == f"host {number}\n" * (number + 1) + f"guest {number}\n"
    # In place, too; and a removed file comes back when the host makes it again.
    (settings / "app.toml").write_text("in place\n")
    assert world.run(project, "cat ~/.config/app/app.toml").ok().out == "in place\n"
    (settings / "app.toml").unlink()
    assert world.run(project, "cat ~/.config/app/app.toml").code != 0
    (settings / "app.toml").write_text("back\n")
    assert world.run(project, "cat ~/.config/app/app.toml").ok().out == "back\n"

    refused = world.run(project, "echo new > ~/.config/app/new && mv ~/.config/app/new ~/.config/app/app.toml")
    assert refused.code != 0 and "busy" in refused.err
    assert "Read-only file system" in world.sandbox(
        "exec", "-u", "root", "--", "sh", "-c", "echo x > /etc/fixed.toml", cwd=project
    ).err  # fmt: skip
    argv = ["exec", "-i", "-u", "root", "--", "python3", "-"]
    assert json.loads(world.sandbox(*argv, cwd=project, stdin=ATTACK).ok().out) == []
    assert sorted(os.listdir(settings)) == ["app.toml", "fixed.toml", "secret"]  # noqa: PTH208
    assert (settings / "fixed.toml").read_text() == "fixed 2\n"
