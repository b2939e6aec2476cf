"""Files that nobody names and that a guest can write, such as `.env`: `--yes` is not for what it may have written."""

from __future__ import annotations

import pytest
from approving import HEAD, WORKSPACE, alone, answer, unasked
from cli_world import CommandLine, Ran, write_instance

from engine.state.layout import Layout

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
