"""`up` asks once, on a terminal, about what a file wants of this host, and again only when it wants more."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pexpect
import pytest
from cli_world import DEADLINE_S, CommandLine

from engine.layout import Layout

HEAD = 'version: "1"\n'
WORKSPACE = HEAD + "mounts: [.:/workspace]\n"
ONLY = str(Path(__file__).with_name("approve_only.py"))


@contextlib.contextmanager
def on_a_terminal(sandbox: CommandLine, *argv: str) -> Iterator[pexpect.spawn[str]]:
    child = pexpect.spawn(
        sys.executable,
        list(argv),
        cwd=str(sandbox.project),
        env=sandbox.environment(TERM="dumb"),
        dimensions=(50, 200),
        timeout=DEADLINE_S,
        encoding="utf-8",
    )
    try:
        yield child
    finally:
        child.close(force=True)


def answer(sandbox: CommandLine, typed: str | None, *options: str) -> tuple[int, str]:
    """Exit code and all that was shown; `typed` None: no question is expected."""
    with on_a_terminal(sandbox, ONLY, *options) as child:
        shown = ""
        if typed is not None:
            child.expect_exact("Allow this? [y/N]: ")
            shown = child.before or ""
            child.send(typed)
        child.expect(pexpect.EOF)
        shown += child.before or ""
        child.wait()
        assert child.exitstatus is not None
        return child.exitstatus, shown.replace("\r\n", "\n")


def unasked(sandbox: CommandLine, *options: str) -> str:
    """What it prints where there is no terminal."""
    argv = [sys.executable, ONLY, *options]
    done = subprocess.run(
        argv, cwd=sandbox.project, env=sandbox.environment(), stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    return done.stdout


def test_a_file_is_asked_about_once(sandbox: CommandLine, layout: Layout) -> None:
    file = sandbox.file(WORKSPACE)
    code, shown = answer(sandbox, "y\n")
    assert code == 0 and shown.endswith("agreed\n")
    row = f"     {sandbox.project}  live, read and write  this project, as /workspace\n"
    assert f"{file} asks this host for:\n  directories of this host\n{row}" in shown
    assert layout.approval(file).stat().st_mode & 0o777 == 0o600
    assert answer(sandbox, None) == (0, "agreed\n")
    # From now on also where nobody can be asked.
    assert unasked(sandbox) == "agreed\n"


def test_what_asks_for_nothing_asks_nobody(sandbox: CommandLine, layout: Layout) -> None:
    sandbox.file(HEAD + "endpoints: [npm, api.example.com]\n")
    assert answer(sandbox, None) == (0, "agreed\n")
    assert not layout.trust.exists()


def test_less_is_not_asked_about_and_more_is(sandbox: CommandLine) -> None:
    sandbox.file(WORKSPACE + "ports: ['3000:3000']\nendpoints: ['*.example.com']\n")
    assert answer(sandbox, "y\n")[0] == 0
    sandbox.file(WORKSPACE)
    assert answer(sandbox, None) == (0, "agreed\n")
    sandbox.file(WORKSPACE + "ports: ['3000:3000', '4000:4000']\n")
    code, shown = answer(sandbox, "n\n")
    assert code == 1 and "asks more of this host than you approved (+):" in shown
    assert re.search(r"^   \+ 4000 +for port 4000$", shown, re.M) and re.search(
        r"^     3000 +for port 3000$", shown, re.M
    )
    assert "error: not approved: nothing was started" in shown
    # A refusal is not remembered, and what was approved still is.
    sandbox.file(WORKSPACE + "ports: ['3000:3000']\n")
    assert answer(sandbox, None) == (0, "agreed\n")


@pytest.mark.parametrize("typed", ["\n", "n\n", "no\n", "\x03", "\x04"])
def test_no_is_the_answer_unless_it_is_yes(sandbox: CommandLine, layout: Layout, typed: str) -> None:
    file = sandbox.file(WORKSPACE)
    with on_a_terminal(sandbox, "-m", "engine.cli.main", "up", "-d") as child:
        child.expect_exact("Allow this? [y/N]: ")
        child.send(typed)
        child.expect_exact("error: not approved: nothing was started")
        child.expect(pexpect.EOF)
        child.wait()
        assert child.exitstatus == 1
    assert sandbox.effects() == []
    assert not layout.approval(file).exists()
    assert not layout.instances.exists() or list(layout.instances.iterdir()) == []
    assert [path.name for path in layout.cache.iterdir()] == ["README"]


def test_yes_is_for_one_run(sandbox: CommandLine, layout: Layout) -> None:
    sandbox.file(WORKSPACE)
    assert unasked(sandbox, "--yes") == "agreed\n"
    assert not layout.trust.exists()
    ran = sandbox("up", "-d")
    assert (ran.code, ran.out) == (2, "") and "nobody is here to approve that: nothing was started" in ran.err
    assert "`--yes` approves this run" in ran.err
    assert sandbox.effects() == []


def test_a_question_that_nobody_could_read_is_not_asked(sandbox: CommandLine) -> None:
    sandbox.file(WORKSPACE)
    # The terminal is there, but standard error is not it.
    with on_a_terminal(
        sandbox, "-c", f"import os; os.execlp('sh', 'sh', '-c', 'exec {sys.executable} {ONLY} 2>err')"
    ) as child:
        child.expect(pexpect.EOF)
        child.wait()
        assert child.exitstatus == 2
    assert "nobody is here to approve that" in (sandbox.project / "err").read_text()


def test_a_damaged_record_is_told_of_and_counts_as_none(sandbox: CommandLine, layout: Layout) -> None:
    file = sandbox.file(WORKSPACE)
    assert answer(sandbox, "y\n")[0] == 0
    path = layout.approval(file)
    path.write_text(path.read_text().replace(str(sandbox.project), "/"))
    ran = sandbox("up", "-d")
    assert ran.code == 2 and f"note: {path} is damaged: it counts as not approved" in ran.err
    assert answer(sandbox, "y\n")[0] == 0
    assert answer(sandbox, None) == (0, "agreed\n")


def test_a_link_in_the_project_that_is_retargeted_is_asked_about_again(sandbox: CommandLine, tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    link = sandbox.project / "link"
    link.symlink_to("../one")
    sandbox.file(HEAD + "mounts: ['./link:/link:ro']\n")
    assert f"{tmp_path}/one  live, read only  OUTSIDE, through the link ./link" in answer(sandbox, "y\n")[1]
    assert answer(sandbox, None) == (0, "agreed\n")
    link.unlink()
    link.symlink_to("../two")
    code, shown = answer(sandbox, "n\n")
    assert code == 1 and f"{tmp_path}/two" in shown and f"{tmp_path}/one" not in shown


def test_the_same_text_elsewhere_is_another_file(sandbox: CommandLine, tmp_path: Path) -> None:
    sandbox.file(HEAD + "ports: ['3000:3000']\n")
    assert answer(sandbox, "y\n")[0] == 0
    shutil.copytree(sandbox.project, tmp_path / "copy")
    assert sandbox("up", "-d", cwd=tmp_path / "copy").code == 2


def test_several_agents_are_one_question(sandbox: CommandLine) -> None:
    sandbox.file(
        WORKSPACE
        + "agents:\n  front: {command: [run], ports: ['3000:3000']}\n  back: {command: [run], ports: ['4000:4000']}\n"
    )
    assert answer(sandbox, "y\n")[0] == 0
    for name in ("front", "back"):
        assert answer(sandbox, None, "--agent", name) == (0, "agreed\n")
    sandbox("trust", "revoke")
    # One of them alone, then the other: what was approved for one stays.
    assert answer(sandbox, "y\n", "--agent", "front")[0] == 0
    assert answer(sandbox, "y\n", "--agent", "back")[0] == 0
    assert answer(sandbox, None, "--agent", "front") == (0, "agreed\n")
    assert answer(sandbox, None) == (0, "agreed\n")


# -- sandbox trust


def test_show_ls_and_revoke(sandbox: CommandLine, layout: Layout, tmp_path: Path) -> None:
    file = sandbox.file(WORKSPACE)
    assert sandbox("trust", "ls").err == "nothing is approved; `sandbox up` asks\n"
    assert json.loads(sandbox("trust", "ls", "--json").out) == []
    shown = sandbox("trust", "show")
    assert shown.code == 0 and shown.out.splitlines()[0] == f"{file} asks this host for:"
    assert shown.out.splitlines()[-1] == "not approved: `sandbox up` asks"
    assert answer(sandbox, "y\n")[0] == 0

    identity = layout.approval(file).stem
    listed = sandbox("trust", "ls").out.splitlines()
    assert listed[0].split() == ["ID", "FILE", "APPROVED", "ASKS"]
    assert re.fullmatch(rf"{identity}  {file}  \d{{4}}-\d\d-\d\dT\S+  1", listed[1])
    [row] = json.loads(sandbox("trust", "ls", "--json").out)
    assert (row["id"], row["file"], row["exists"], len(row["asks"])) == (identity, str(file), True, 1)
    assert sandbox("trust", "show").out.splitlines()[-1].startswith("approved 20")

    sandbox.file(WORKSPACE + "ports: [3000]\n")
    value = json.loads(sandbox("trust", "show", "--json").out)
    assert (value["file"], value["approved"]) == (str(file), False)
    assert [(ask["kind"], ask["approved"]) for ask in value["asks"]] == [("port", False), ("directory", True)]
    assert "except for what is marked with +" in sandbox("trust", "show", str(sandbox.project), cwd=tmp_path).out
    # What lies over the file counts, too.
    assert "*.example.com" in sandbox("trust", "show", "--set", "endpoints=['*.example.com']").out

    assert sandbox("trust", "revoke").out == f"revoked {file}\n"
    ran = sandbox("trust", "revoke")
    assert ran.code == 1 and f"nothing is approved for {file}" in ran.err
    assert sandbox("up", "-d").code == 2


@pytest.mark.parametrize("how", ["id", "file", "directory", "relative", "gone", "--all"])
def test_revoke_takes(sandbox: CommandLine, layout: Layout, tmp_path: Path, how: str) -> None:
    file = sandbox.file(WORKSPACE)
    assert answer(sandbox, "y\n")[0] == 0
    if how == "gone":
        shutil.rmtree(sandbox.project)
        assert sandbox("trust", "ls", cwd=tmp_path).out.splitlines()[1].split()[2] == "(gone)"
    target = {
        "id": layout.approval(file).stem,
        "directory": str(file.parent),
        "relative": "project/Sandboxfile.yaml",
    }.get(how, str(file) if how != "--all" else "--all")
    assert sandbox("trust", "revoke", target, cwd=tmp_path).out == f"revoked {file}\n"
    assert list(layout.trust.iterdir()) == []


def test_revoke_refuses_what_is_not_there(sandbox: CommandLine, tmp_path: Path) -> None:
    sandbox.file(WORKSPACE)
    assert answer(sandbox, "y\n")[0] == 0
    for target in ("0123456789abcdef", "../elsewhere", "", "/"):
        ran = sandbox("trust", "revoke", ".", target)
        assert ran.code == 1 and "nothing is approved for" in ran.err
    assert len(json.loads(sandbox("trust", "ls", "--json").out)) == 1  # all of them or none
    assert sandbox("trust", "revoke", "--all", ".").code == 2
    assert sandbox("trust", "revoke", cwd=tmp_path).code == 2  # no project here


def test_damaged_records_are_listed_and_can_be_revoked(sandbox: CommandLine, layout: Layout) -> None:
    layout.trust.mkdir(parents=True)
    (layout.trust / "0123456789abcdef.json").write_text("{")
    assert "cannot be read" in sandbox("trust", "ls").out
    assert json.loads(sandbox("trust", "ls", "--json").out)[0]["id"] == "0123456789abcdef"
    assert sandbox("trust", "revoke", "0123456789abcdef").out == "revoked 0123456789abcdef\n"


def test_help_and_completion(sandbox: CommandLine, layout: Layout) -> None:
    file = sandbox.file(WORKSPACE)
    assert answer(sandbox, "y\n")[0] == 0
    assert sandbox("trust").out == sandbox("trust", "--help").out
    ran = sandbox("trust", _SANDBOX_COMPLETE="zsh_complete", COMP_WORDS="sandbox trust revoke ", COMP_CWORD="3")
    assert layout.approval(file).stem in ran.out and str(file) in ran.out
    assert sandbox("trust", "show", "nowhere").code == 2
    assert sandbox("trust", "lst").code == 2
