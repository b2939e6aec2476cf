"""`up` asks once, on a terminal, about what a file wants of this host, and again only when it wants more."""

from __future__ import annotations

import os
import re
import shutil
import sys
from pathlib import Path

import pexpect
import pytest
from approving import HEAD, ONLY, WORKSPACE, answer, on_a_terminal, unasked
from cli_world import CommandLine

from engine.resolve.capacity import host_memory
from engine.state.layout import Layout


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
