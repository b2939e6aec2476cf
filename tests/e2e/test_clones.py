"""A private copy of a project in a real machine: git works in it, and its changes come back when the user says so."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path

from world import World, wait_until

FILE = "name: copied\nmounts: ['.:/workspace:clone']\n"
SYNC_S = 400.0  # two syncs at a load at which one takes half a minute
GIT = ["git", "-c", "user.name=x", "-c", "user.email=x@example.com"]


def git(project: Path, *words: str) -> str:
    return subprocess.run([*GIT, *words], cwd=project, capture_output=True, text=True, check=True).stdout


def test_a_private_copy(world: World) -> None:
    files = {"a.py": "1\n2\n3\n4\n5\n", "b.txt": "b\n", ".gitignore": "out/\n*.log\n", "noise.log": "x"}
    project = world.project(FILE, files)
    git(project, "init", "-q")
    git(project, "add", "-A")
    git(project, "commit", "-qm", "first")
    (project / "new.txt").write_text("not committed\n")
    world.up(project)

    # The guest has the files and the repository, and what is ignored is not there.
    seen = world.run(project, "git status --porcelain; git log --format=%s; ls").ok().out.split()
    assert seen == ["??", "new.txt", "first", "Sandboxfile.yaml", "a.py", "b.txt", "new.txt"]
    assert world.sandbox("diff", cwd=project).ok().out == ""

    # What the guest does stays in the guest.
    work = "sed -i s/5/five/ a.py; rm b.txt; mkdir -p out .github/workflows; echo x > out/y; echo n > 'with space'"
    commit = "git -c user.name=g -c user.email=g@example.com commit -qam work"
    world.run(project, f"{work}; echo ci > .github/workflows/ci.yml; ln -s /etc/passwd leads-out; {commit}").ok()
    assert git(project, "status", "--porcelain") == "?? new.txt\n"
    found = json.loads(world.sandbox("diff", "--json", cwd=project).ok().out)
    changes = {one["path"]: one["change"] for one in found["clones"][0]["changes"]}
    assert changes == {
        ".github/workflows/ci.yml": "new",
        "a.py": "changed",
        "b.txt": "gone",
        "leads-out": "new",
        "with space": "new",
    }
    assert "-5\n+five\n" in world.sandbox("diff", "a.py", cwd=project).ok().out
    assert world.sandbox("diff", "--stat", "--exit-code", cwd=project).code == 1

    # Its commits become a branch, and nothing else changes.
    pulled = world.sandbox("pull", "--branch", "try", cwd=project).ok()
    assert pulled.out == "1 commit on try\n" and "changed there and not committed" in pulled.err
    assert git(project, "log", "--format=%s", "try") == "work\nfirst\n"
    assert git(project, "status", "--porcelain") == "?? new.txt\n"
    assert world.sandbox("pull", "--branch", "try", cwd=project).code == 2

    # `down` does not throw it away unasked.
    refused = world.sandbox("down", cwd=project)
    assert refused.code == 2 and "5 files were changed in the private copy" in refused.err

    # The host has gone on in the meantime: what both have changed is merged.
    (project / "a.py").write_text("one\n2\n3\n4\n5\n")
    checked = world.sandbox("apply", "--check", cwd=project).ok().out
    assert "held back" in checked and "refused" in checked and (project / "b.txt").exists()
    world.sandbox("apply", cwd=project).ok()
    assert (project / "a.py").read_text() == "one\n2\n3\n4\nfive\n"
    assert (project / "with space").read_text() == "n\n" and not (project / "b.txt").exists()
    assert not (project / ".github").exists() and not os.path.lexists(project / "leads-out")
    world.sandbox("apply", ".github/workflows/ci.yml", cwd=project).ok()
    assert (project / ".github/workflows/ci.yml").read_text() == "ci\n"

    # A conflict changes nothing.
    world.run(project, "echo guest > new.txt; echo fine > another").ok()
    (project / "new.txt").write_text("host\n")
    conflict = world.sandbox("apply", cwd=project)
    assert conflict.code == 1 and "new.txt: both have changed the same lines" in conflict.err
    assert (project / "new.txt").read_text() == "host\n" and not (project / "another").exists()
    world.sandbox("apply", "another", cwd=project).ok()
    assert (project / "another").read_text() == "fine\n"

    # Both sides edit, and one command makes them the same; where it cannot, it changes neither.
    world.run(
        project, "echo more >> another; mkdir deep; printf 'b\\0in' > deep/bin; chmod +x a.py; echo x > .envrc"
    ).ok()
    (project / "here.txt").write_text("of the host\n")
    (project / "noise.log").write_text("ignored")
    (project / "with space").unlink()
    conflict = world.sandbox("sync", cwd=project)
    assert conflict.code == 1 and "new.txt: both have changed the same lines" in conflict.err
    assert not (project / "deep").exists() and "here.txt" not in world.run(project, "ls").ok().out
    (project / "new.txt").write_text("guest\n")
    planned = json.loads(world.sandbox("sync", "--dry-run", "--json", cwd=project).ok().out)
    assert planned["synced"] is False
    synced = json.loads(world.sandbox("sync", "--json", cwd=project).ok().out)
    assert synced["clones"] == planned["clones"] and synced["synced"]
    assert {one["path"]: one["action"] for one in synced["clones"][0]["files"]} == {
        ".envrc": "held back",
        "a.py": "merge",
        "another": "to host",
        "deep/bin": "to host",
        "here.txt": "to copy",
        "leads-out": "refused",
        "new.txt": "same",
        "with space": "to copy",
    }
    seen = world.run(project, "cat a.py here.txt; ls; stat -c %U here.txt; git log --format=%s").ok().out.split("\n")
    assert (
        seen[:6] == ["one", "2", "3", "4", "five", "of the host"]
        and "agent" in seen
        and seen[-3:-1] == ["work", "first"]
    )
    assert "with space" not in seen and "noise.log" not in seen
    assert (project / "deep/bin").read_bytes() == b"b\0in" and os.access(project / "a.py", os.X_OK)
    assert not (project / ".envrc").exists()
    left = json.loads(world.sandbox("diff", "--json", cwd=project).ok().out)["clones"][0]["changes"]
    assert {one["path"] for one in left} == {".envrc", "leads-out"}, "what has met is the new base"

    # And again after each change of either side; a conflict ends nothing.
    with world.start("sync", "--watch", cwd=project) as watching:
        (project / "here.txt").write_text("edited\n")
        wait_until(
            lambda: world.run(project, "cat here.txt").out,
            lambda out: out == "edited\n",
            "the edit in the copy",
            SYNC_S,
        )
        world.run(project, "mkdir -p deep/new; echo made > deep/new/file").ok()
        made = project / "deep/new/file"
        wait_until(made.exists, bool, "the new file on this host", SYNC_S)
        assert made.read_text() == "made\n"
        os.kill(watching.pid, signal.SIGINT)
        assert watching.wait(60) == 130
    world.sandbox("down", "--yes", cwd=project).ok()


def test_root_in_the_guest_cannot_write_anywhere_else(world: World) -> None:
    """Whatever the guest's git, its links and its names say, `apply` writes into the project alone."""
    project = world.project(FILE, {"a": "a\n", "d/e": "e\n"})
    outside = world.base / "outside"
    outside.mkdir()
    (project / "to-outside").symlink_to(outside)
    world.up(project)
    evil = (
        "import os, subprocess\n"
        "os.chdir('/workspace')\n"
        "os.unlink('to-outside'); os.mkdir('to-outside'); open('to-outside/x', 'w').write('x')\n"
        "os.rename('d', 'real'); os.symlink('/', 'd')\n"
        "os.makedirs('.git/hooks', exist_ok=True); open('.git/hooks/post-checkout', 'w').write('x')\n"
        "os.makedirs('sub/.git/hooks', exist_ok=True); open('sub/.git/hooks/pre-commit', 'w').write('x')\n"
        "open(b'line\\nbreak', 'w').write('x'); open(b'esc\\x1b]0;x', 'w').write('x')\n"
        "os.mkfifo('fifo')\n"
    )
    world.run(project, f'sudo -n python3 -c "{evil}" 2>/dev/null || python3 -c "{evil}"').ok()
    shown = world.sandbox("diff", cwd=project).ok()
    assert "\x1b]0" not in shown.out
    world.sandbox("apply", cwd=project)
    (project / "d" / "new").write_text("of the host\n")
    world.sandbox("sync", cwd=project)
    assert world.run(project, "ls /new").code != 0, "and nothing goes in through a link"
    assert list(outside.iterdir()) == []
    assert not (project / ".git").exists() and not (project / "sub/.git").exists()
    assert not (project / "d").is_symlink()
    world.sandbox("down", "--yes", cwd=project).ok()
