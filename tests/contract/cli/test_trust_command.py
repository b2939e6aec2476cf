"""`sandbox trust`: what was approved is shown, and taken back."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
from approving import WORKSPACE, answer
from cli_world import CommandLine

from engine.state.layout import Layout


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
