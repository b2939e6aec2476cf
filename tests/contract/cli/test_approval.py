"""`up` asks once, on a terminal, about what a file wants of this host, and again only when it wants more."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pexpect
import pytest
from cli_world import DEADLINE_S, CommandLine, Ran, write_instance

from engine.resolve.capacity import host_memory
from engine.state.layout import Layout

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
    return alone(sandbox, *options).out


def alone(sandbox: CommandLine, *options: str) -> Ran:
    """The same with all that it says."""
    argv = [sys.executable, ONLY, *options]
    done = subprocess.run(
        argv, cwd=sandbox.project, env=sandbox.environment(), stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    return Ran(done.returncode, done.stdout, done.stderr)


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


# -- files that nobody names, and that a guest can write

LOCAL = "Sandboxfile.local.yaml"
VARIABLE = "agent: {command: [run], env: {A: '${B}'}}\n"
STARTED = ("--yes", "--start")


def assert_refused(ran: Ran, name: str, change: str) -> None:
    assert (ran.code, ran.out) == (2, ""), ran
    said = f"error: {name} {change}, and a sandbox of this project could have written it: nothing was started"
    assert said in ran.err and "`--yes` is not for what a guest may have written" in ran.err
    assert "or approve it: `sandbox up` on a terminal asks" in ran.err


@pytest.mark.parametrize(
    ("name", "text", "otherwise"),
    [
        (LOCAL, "packages: [jq]\n", "packages: [ripgrep]\n"),
        (".env", "B=1\n", "B=2\n"),
    ],
)
def test_yes_is_not_for_what_a_guest_may_have_written(
    sandbox: CommandLine, name: str, text: str, otherwise: str
) -> None:
    sandbox.file(WORKSPACE + VARIABLE)
    sandbox.file("B=0\n", ".env")
    # The user's own, before any sandbox ran: nobody is bothered.
    sandbox.file(text, name)
    assert unasked(sandbox, *STARTED) == "agreed\n"
    assert unasked(sandbox, *STARTED) == "agreed\n"
    # Changed since.
    sandbox.file(otherwise, name)
    for options in (STARTED, STARTED, ()):
        assert_refused(alone(sandbox, *options), name, "has changed")
    # As it was.
    sandbox.file(text, name)
    assert unasked(sandbox, *STARTED) == "agreed\n"
    # On a terminal: one question, which says so; then it is known, also to scripts.
    sandbox.file(otherwise, name)
    code, shown = answer(sandbox, "y\n", "--start")
    assert code == 0 and f"! {sandbox.project}/{name}: it has changed since a sandbox of this project was st" in shown
    assert answer(sandbox, None, "--start") == (0, "agreed\n")
    assert unasked(sandbox) == unasked(sandbox, *STARTED) == "agreed\n"
    sandbox.file(text, name)
    assert_refused(alone(sandbox, "--yes"), name, "has changed")


def test_yes_is_not_for_what_was_not_there(sandbox: CommandLine) -> None:
    sandbox.file(WORKSPACE)
    assert unasked(sandbox, *STARTED) == "agreed\n"
    sandbox.file("mounts: ['~:/stolen']\n", LOCAL)
    ran = alone(sandbox, *STARTED)
    assert_refused(ran, LOCAL, "is new")
    assert f"hint: look at it, then name it: -f {LOCAL}; or approve it" in ran.err
    # Named, it is the user's.
    assert unasked(sandbox, *STARTED, "-f", LOCAL) == "agreed\n"
    assert_refused(alone(sandbox, *STARTED), LOCAL, "is new")
    (sandbox.project / LOCAL).unlink()
    assert unasked(sandbox, *STARTED) == "agreed\n"
    # Refused on the terminal, it stays what it is.
    sandbox.file("mounts: ['~:/stolen']\n", LOCAL)
    assert answer(sandbox, "n\n", "--start")[0] == 1
    assert_refused(alone(sandbox, *STARTED), LOCAL, "is new")


def test_variables_that_nobody_names(sandbox: CommandLine) -> None:
    sandbox.file(WORKSPACE + VARIABLE.replace("${B}", "${B:-}"))
    assert unasked(sandbox, *STARTED) == "agreed\n"
    sandbox.file("B=1\n", ".env")
    ran = alone(sandbox, *STARTED)
    assert_refused(ran, ".env", "is new")
    assert "then set in the environment what it sets (gives B)" in ran.err
    done = sandbox("up", "-d", "--yes", "--set", "services.a.image=b", B="2", PATH="/nowhere")
    assert "could have written it" not in done.err


def test_variables_that_were_there_before_they_were_read(sandbox: CommandLine) -> None:
    sandbox.file(WORKSPACE)
    sandbox.file("B=1\n", ".env")
    assert unasked(sandbox, *STARTED) == "agreed\n"
    sandbox.file(WORKSPACE + VARIABLE)
    assert unasked(sandbox, *STARTED) == "agreed\n"
    sandbox.file("B=2\n", ".env")
    assert_refused(alone(sandbox, *STARTED), ".env", "has changed")


@pytest.mark.parametrize("over", ["mounts: []\n", "mounts: ['.:/workspace:ro']\n", "mounts: ['./sub:/workspace']\n"])
def test_a_layer_that_hides_the_mount_it_came_by(sandbox: CommandLine, over: str) -> None:
    sandbox.file(WORKSPACE)
    assert unasked(sandbox, *STARTED) == "agreed\n"
    (sandbox.project / "sub").mkdir()
    sandbox.file(over + "endpoints: [evil.example]\n", LOCAL)
    assert_refused(alone(sandbox, *STARTED), LOCAL, "is new")


def test_where_an_earlier_sandbox_could_write(sandbox: CommandLine) -> None:
    sandbox.file(WORKSPACE)
    assert unasked(sandbox, *STARTED) == "agreed\n"
    sandbox.file(WORKSPACE.replace("workspace", "workspace:ro"))
    assert unasked(sandbox, *STARTED) == "agreed\n"
    sandbox.file("packages: [jq]\n", LOCAL)  # the first one may still run
    assert_refused(alone(sandbox, *STARTED), LOCAL, "is new")


def test_what_no_guest_could_write_is_nobodys_question(sandbox: CommandLine) -> None:
    (sandbox.project / "sub").mkdir()
    sandbox.file(HEAD + "mounts: ['.:/workspace:ro', './sub:/sub']\n")
    assert unasked(sandbox, *STARTED) == "agreed\n"
    sandbox.file("packages: [jq]\n", LOCAL)
    assert unasked(sandbox, *STARTED) == "agreed\n"
    # Unless it is a link into what the guest can write.
    (sandbox.project / "sub" / "over.yaml").write_text("packages: [jq]\n")
    (sandbox.project / LOCAL).unlink()
    (sandbox.project / LOCAL).symlink_to("sub/over.yaml")
    assert unasked(sandbox, *STARTED) == "agreed\n"
    (sandbox.project / "sub" / "over.yaml").write_text("packages: [ripgrep]\n")
    assert_refused(alone(sandbox, *STARTED), LOCAL, "has changed")


def test_what_was_never_started_has_no_past(sandbox: CommandLine) -> None:
    sandbox.file(WORKSPACE)
    for text in ("packages: [jq]\n", "packages: [ripgrep]\n"):
        sandbox.file(text, LOCAL)
        assert unasked(sandbox, "--yes") == "agreed\n"


def test_a_sandbox_of_a_version_that_noted_nothing(sandbox: CommandLine, layout: Layout) -> None:
    sandbox.file(HEAD + "name: shop\n")
    sandbox.file("packages: [jq]\n", LOCAL)
    mounts = [{"source": str(sandbox.project), "target": "/workspace", "read_only": False, "protected": []}]
    write_instance(layout, "shop", project=str(sandbox.project), mounts=mounts)
    assert_refused(alone(sandbox, "--yes"), LOCAL, "is new")
    assert answer(sandbox, "y\n")[0] == 0
    assert unasked(sandbox, "--yes") == "agreed\n"


def test_an_old_plan_is_a_past(sandbox: CommandLine, layout: Layout) -> None:
    sandbox.file(WORKSPACE)
    sandbox.file("packages: [jq]\n", LOCAL)
    plan = layout.project_plan(sandbox.project)
    plan.parent.mkdir(parents=True)
    plan.write_text("{}")
    assert_refused(alone(sandbox, "--yes"), LOCAL, "is new")


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"version": 2}', '{"version": 1, "files": 3, "lent": []}'])
def test_a_damaged_memory_vouches_for_nothing(sandbox: CommandLine, layout: Layout, damage: str) -> None:
    sandbox.file(HEAD)
    sandbox.file("packages: [jq]\n", LOCAL)
    assert unasked(sandbox, *STARTED) == "agreed\n"
    seen = layout.project_seen(sandbox.project)
    assert seen.stat().st_mode & 0o077 == 0 and "jq" not in seen.read_text()
    seen.write_text(damage)
    assert_refused(alone(sandbox, *STARTED), LOCAL, "is new")


def test_two_files_of_which_one_may_be_a_guests(sandbox: CommandLine) -> None:
    (sandbox.project / "Sandboxfile.yml").write_text(WORKSPACE)
    assert sandbox("validate").code == 0
    sandbox.file(HEAD + "mounts: ['~:/stolen']\n")
    for argv in (("up", "-d", "--yes"), ("validate",), ("up", "-d", "--yes", ".")):
        ran = sandbox(*argv)
        assert ran.code == 2 and "has Sandboxfile.yaml and Sandboxfile.yml" in ran.err
    assert sandbox("validate", "Sandboxfile.yml").code == 0


# -- much of this host


def test_most_of_this_host_is_asked_about(sandbox: CommandLine) -> None:
    half = host_memory() // 1024**2 // 2
    cpus = os.cpu_count() or 1
    sandbox.file(HEAD + f"machine: {{memory: {half}MiB, cpus: {cpus}, disk: 2GiB}}\n")
    assert answer(sandbox, None) == (0, "agreed\n")
    sandbox.file(HEAD + f"machine: {{memory: {half + 1}MiB, cpus: {cpus + 1}, disk: 15TiB}}\n")
    code, shown = answer(sandbox, "y\n")
    assert code == 0 and "  more of this host than a sandbox should need\n" in shown
    assert re.search(r"^     memory  \d+MiB, of \d+\.\d GiB$", shown, re.M)
    assert re.search(rf"^     cpus    {cpus + 1}, of {cpus}$", shown, re.M)
    assert re.search(r"^     disk    15TiB, of \d+\.\d GiB that are free$", shown, re.M)
    # Less is not asked about again, more is.
    sandbox.file(HEAD + f"machine: {{memory: {half + 1}MiB, disk: 14TiB}}\n")
    assert answer(sandbox, None) == (0, "agreed\n")
    sandbox.file(HEAD + f"machine: {{memory: {half + 2}MiB}}\n")
    assert answer(sandbox, "n\n")[0] == 1


def test_more_of_busy_processors_than_others_get_is_asked_about(sandbox: CommandLine) -> None:
    sandbox.file(HEAD + "machine: {cpu_weight: 100}\n")
    assert answer(sandbox, None) == (0, "agreed\n")
    sandbox.file(HEAD + "machine: {cpu_weight: 101}\n")
    code, shown = answer(sandbox, "y\n")
    assert code == 0 and "cpu_weight  101 of busy processors, where others have 100" in shown
    sandbox.file(HEAD + "machine: {cpu_weight: 50}\n")
    assert answer(sandbox, None) == (0, "agreed\n")
    sandbox.file(HEAD + "machine: {cpu_weight: 102}\n")
    assert answer(sandbox, "n\n")[0] == 1


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
