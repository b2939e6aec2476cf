"""What the host runs later is protected: git is asked what it reads, with worktrees and submodules, too."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from engine.errors import EngineError
from engine.resolve.mounts_and_ports import wanted_mounts
from engine.resolve.paths import places_on_the_way
from engine.workspaces.run_later import run_later
from sandboxfile import load

GIT = ("git", "-c", "user.name=n", "-c", "user.email=n@example.com", "-c", "protocol.file.allow=always")


def git(directory: Path, *argv: str) -> str:
    ran = subprocess.run([*GIT, "-C", str(directory), *argv], check=True, capture_output=True, text=True)
    return ran.stdout.strip()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    path = tmp_path / "repository"
    subprocess.run([*GIT, "init", "-q", str(path)], check=True)
    git(path, "commit", "-q", "--allow-empty", "-m", "first")
    return path


def read_by_git(directory: Path) -> set[Path]:
    """The files of configuration and the directory of hooks that git takes there."""
    lines = git(directory, "config", "--list", "--show-origin", "--local", "--includes").splitlines()
    files = {(directory / line.split("\t")[0].removeprefix("file:")).resolve() for line in lines}
    return {*files, (directory / git(directory, "rev-parse", "--git-path", "hooks")).resolve()}


def test_a_repository(repository: Path) -> None:
    kept = set(run_later(repository))
    assert read_by_git(repository) == {repository / ".git" / "config", repository / ".git" / "hooks"} <= kept
    others = ("opencode.json", "opencode.jsonc", ".opencode/plugin", ".opencode/plugins", ".opencode/tool")
    others += (".vscode/mcp.json", ".claude/hooks", ".claude/skills", ".claude/commands")
    assert {repository / name for name in others} <= kept
    assert {repository / ".vscode" / "tasks.json", repository / ".claude" / "settings.json"} <= kept
    assert set(run_later(repository / ".git")) > {repository / ".git" / "config", repository / ".git" / "commondir"}


@pytest.mark.parametrize("hooks", [".husky/_", '"my hooks"'])
def test_where_the_configuration_leads(repository: Path, hooks: str) -> None:
    (repository / "shared.inc").write_text("[alias]\n\tx = !true\n")
    with (repository / ".git" / "config").open("a") as file:
        file.write(f"[core]\n\thookspath = {hooks}\n[include] path = ../shared.inc\n")
    kept = set(run_later(repository))
    assert {repository / "shared.inc", repository / hooks.strip('"')} < read_by_git(repository) <= kept


def write_hook(path: Path, ran: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\ntouch {ran}\n")
    path.chmod(0o755)


def test_the_script_behind_a_hook_that_is_a_link(repository: Path, tmp_path: Path) -> None:
    write_hook(repository / "scripts" / "pre-commit", tmp_path / "ran")
    (repository / "way").symlink_to("scripts")
    (repository / ".git" / "hooks").mkdir(exist_ok=True)
    (repository / ".git" / "hooks" / "pre-commit").symlink_to("../../way/pre-commit")
    git(repository, "commit", "-q", "--allow-empty", "-m", "second")
    assert (tmp_path / "ran").exists()
    kept = {place for path in run_later(repository) for place in places_on_the_way(path)}
    assert {repository / "way", repository / "scripts" / "pre-commit"} <= kept


def test_the_hooks_that_those_of_husky_call(repository: Path) -> None:
    write_hook(repository / "front" / ".husky" / "_" / "pre-commit", repository)
    git(repository, "config", "core.hooksPath", "front/.husky/_")
    kept = set(run_later(repository))
    assert {repository / "front" / ".husky", repository / "front" / ".husky" / "_"} <= kept
    assert repository / "front" not in kept


def test_included_files_and_those_that_they_include(repository: Path, tmp_path: Path) -> None:
    """git reads hooks, filters and monitors there, too; a loop of includes ends."""
    write_hook(repository / "tools" / "clean.sh", tmp_path / "ran")
    (repository / "first.inc").write_text('[include]\n\tpath = "sub/second.inc" ; as in git\n')
    (repository / "sub").mkdir()
    (repository / "sub" / "second.inc").write_text(
        '[core]\n hooksPath = \\\n  .hooks # here\n[includeIf "gitdir:/"]\n path=../third.inc\n'
        '[filter "x"]\n clean = sh "tools/clean.sh" %f\n smudge = ./tools/later.sh\n[diff] external=no/such\n'
    )
    (repository / "third.inc").write_text("[core] fsmonitor = ./tools/monitor\n")
    git(repository, "config", "include.path", "../first.inc")
    git(repository, "config", "extensions.worktreeConfig", "true")
    git(repository, "config", "--worktree", "diff.external", "./tools/worktree.sh")
    assert read_by_git(repository) >= {repository / "third.inc", repository / ".hooks"}
    (repository / "third.inc").write_text("[include] path = first.inc\n[core] fsmonitor = ./tools/monitor\n")
    kept = set(run_later(repository))
    named = ("first.inc", "sub/second.inc", "third.inc", ".hooks", "tools/clean.sh", "tools/later.sh", "no/such",
        "tools/monitor", "tools/worktree.sh")  # fmt: skip
    assert {repository / name for name in named} <= kept
    assert not kept & {repository, repository / "tools", repository / "sub", repository / "sh"}


def test_what_the_users_own_configuration_names(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hooks of each repository; and the file itself, which may be a link into a mount."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("GIT_CONFIG_GLOBAL", raising=False)
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    (repository / "gitconfig").write_text("[core]\n\thooksPath = .githooks\n")
    (tmp_path / ".gitconfig").symlink_to("repository/gitconfig")
    kept = {place for path in run_later(repository) for place in places_on_the_way(path)}
    assert {repository / ".githooks", repository / "gitconfig"} <= kept
    assert repository / ".githooks" in read_by_git(repository)


@pytest.mark.parametrize("value", ["", "x" * 300, '"', "a\\", "~nobody/x", "[", "\\\n" * 9])
def test_values_that_lead_nowhere(repository: Path, value: str) -> None:
    before = {*run_later(repository), repository / "~nobody", repository / "x"}
    with (repository / ".git" / "config").open("a") as file:
        file.write(f"[core]\n\tfsmonitor = {value}\n[include]\n\tpath = {value}\n")
    for path in set(run_later(repository)) - before:
        assert [*places_on_the_way(path)] and not path.is_dir()


def test_a_directory_without_one_gets_none_that_it_could_obey(tmp_path: Path) -> None:
    assert {tmp_path / ".git" / "config", tmp_path / ".git" / "hooks"} <= set(run_later(tmp_path))


@pytest.mark.parametrize("bare", [False, True])
def test_the_guest_cannot_put_another_repository_in_the_place_of_one(
    repository: Path, tmp_path: Path, bare: bool
) -> None:
    """It removes HEAD, as git has to, and makes whatever is not protected: git does not run its program."""
    top = repository
    if bare:
        top = tmp_path / "bare"
        subprocess.run([*GIT, "clone", "-q", "--bare", str(repository), str(top)], check=True)
    kept, ran = set(run_later(top)), tmp_path / "ran"
    program = f'[core]\n\trepositoryformatversion = 0\n\tworktree = {top}\n\tfsmonitor = "touch {ran}; false"\n'
    (top / ".git" / "HEAD").unlink(missing_ok=True)
    made = top / ".git" if bare else top
    for name in ("objects", "refs"):
        (made / name).mkdir(parents=True, exist_ok=True)
    for name, text in (("HEAD", "ref: refs/heads/main\n"), ("config", program)):
        if made / name not in kept:
            (made / name).write_text(text)
    subprocess.run([*GIT, "-C", str(top), "status"], check=False, capture_output=True)
    assert not ran.exists()


def test_a_mount_protects_what_another_one_shows_and_the_directories_between(tmp_path: Path) -> None:
    project = tmp_path.resolve() / "work" / "team" / "shop"
    (project / "sub" / "deep").mkdir(parents=True)
    mounts = "mounts: [.:/w, ./sub:/s, {source: ./sub/deep, target: /d, protect: false}, '../..:/all']"
    (project / "Sandboxfile.yaml").write_text(f'version: "1"\n{mounts}\n')
    whole, sub, _, everything = wanted_mounts(load(project / "Sandboxfile.yaml"))
    assert {"sub/.git/config", "sub/HEAD", "HEAD"} <= set(whole.protected) and ".git/config" in sub.protected
    assert {"team/HEAD", "team/shop/sub/.git/hooks"} <= set(everything.protected)
    assert not [path for path in whole.protected if path.startswith("sub/deep")]


def test_a_mount_of_what_the_project_protects(repository: Path, tmp_path: Path) -> None:
    """A part of it is read-only there, too; all of it cannot be writable."""
    project = repository.resolve()
    (project / ".claude").mkdir()
    (project / ".git" / "hooks" / "deep").mkdir(parents=True, exist_ok=True)
    (project / "link").symlink_to(".git/hooks")
    file = project / "Sandboxfile.yaml"
    others = '"./.git/hooks:/h:ro", {source: link, target: /l, protect: false}'
    file.write_text(f'version: "1"\nmounts: [./.claude:/c, {others}]')
    assert {"settings.json", "hooks"} <= set(wanted_mounts(load(file))[0].protected)
    for source in ("./.git/hooks", "./.git/hooks/deep", "./link"):
        file.write_text(f'version: "1"\nmounts: [.:/w, "{source}:/h"]')
        with pytest.raises(EngineError, match=r"\.git/hooks, which this host runs later"):
            wanted_mounts(load(file))


def test_a_worktree_keeps_its_repository(repository: Path, tmp_path: Path) -> None:
    git(repository, "worktree", "add", "-q", str(tmp_path / "other"))
    kept = set(run_later(tmp_path / "other"))
    assert tmp_path / "other" / ".git" in kept
    inside = set(run_later(repository))
    assert read_by_git(tmp_path / "other") <= inside
    assert tmp_path / "other" / ".git" in inside and read_by_git(tmp_path / "other") <= kept
    assert {repository / ".git" / "worktrees" / "other" / name for name in ("commondir", "gitdir")} <= inside


def test_submodules_and_those_in_them(repository: Path, tmp_path: Path) -> None:
    for name in ("inner", "outer"):
        subprocess.run([*GIT, "init", "-q", str(tmp_path / name)], check=True)
        git(tmp_path / name, "commit", "-q", "--allow-empty", "-m", "first")
    git(tmp_path / "outer", "submodule", "--quiet", "add", str(tmp_path / "inner"), "deep/inner")
    git(tmp_path / "outer", "commit", "-qm", "second")
    git(repository, "submodule", "--quiet", "add", str(tmp_path / "outer"), "vendor/outer")
    git(repository, "submodule", "--quiet", "update", "--init", "--recursive")
    kept = set(run_later(repository))
    for module in ("vendor/outer", "vendor/outer/deep/inner"):
        assert read_by_git(repository / module) <= kept and repository / module / ".git" in kept


def test_only_in_a_writable_mount_and_only_while_the_file_does_not_say_otherwise(tmp_path: Path) -> None:
    project = tmp_path.resolve() / "work" / "shop"
    project.mkdir(parents=True)
    mounts = "mounts: [.:/a, '.:/b:ro', {source: ., target: /c, protect: false}, '..:/d']"
    (project / "Sandboxfile.yaml").write_text(f'version: "1"\n{mounts}\n')
    a, b, c, d = wanted_mounts(load(project / "Sandboxfile.yaml"))
    assert ".git/hooks" in a.protected and ".git/config" in a.protected
    assert b.protected == () and ".git/hooks" not in c.protected and "Sandboxfile.yaml" in c.protected
    assert {".git/config", "shop/.git/config", "shop/Sandboxfile.yaml"} <= set(d.protected)
