"""`sandbox init` as a process: templates, questions, what is written and what is not."""

from __future__ import annotations

import json
import sys
import textwrap
from pathlib import Path

import pexpect
import pytest
from cli_world import DEADLINE_S, CommandLine

from engine.starter.templates import template_names
from sandboxfile import parse

PACKAGE = {"package.json": "{}", "package-lock.json": "{}"}


def fill(sandbox: CommandLine, files: dict[str, str]) -> None:
    for name, text in files.items():
        sandbox.file(text, name)


def written(sandbox: CommandLine) -> str:
    return (sandbox.project / "Sandboxfile.yaml").read_text()


def test_list(sandbox: CommandLine) -> None:
    ran = sandbox("init", "--list")
    assert ran.code == 0
    assert [line.split()[0] for line in ran.out.splitlines()] == list(template_names())
    rows = json.loads(sandbox("init", "--list", "--json").out)
    assert {row["name"]: row["agent"] for row in rows}["claude-code"] is True
    assert {
        "name": "shell",
        "summary": "A shell in a machine of its own: no agent, nothing to install",
        "agent": False,
        "own": None,
    } in rows


@pytest.mark.parametrize("name", template_names())
def test_each_template_is_written_and_valid(sandbox: CommandLine, name: str) -> None:
    ran = sandbox("init", name)
    assert (ran.code, ran.err) == (0, "") and f"wrote Sandboxfile.yaml from the template {name}\n" in ran.out
    assert "next:\n  sandbox validate" in ran.out
    assert sandbox("validate").code == 0
    assert sandbox.effects() == []


def test_what_a_project_shows(sandbox: CommandLine) -> None:
    fill(sandbox, {**PACKAGE, "CLAUDE.md": "", "compose.yaml": "services: {db: {image: postgres:17}}"})
    ran = sandbox("init")
    assert ran.code == 0 and "wrote Sandboxfile.yaml from the template claude-code" in ran.out
    assert "npm ci && mkdir" in ran.out and "from package-lock.json" in ran.out
    assert "`sandbox secret set anthropic`, or set ANTHROPIC_API_KEY in your environment" in ran.out
    assert '- run: "npm ci && ' in written(sandbox) and "include: compose.yaml" in written(sandbox)
    assert sandbox("validate").code == 0


def test_what_is_not_wanted_is_left_out(sandbox: CommandLine) -> None:
    fill(sandbox, {**PACKAGE, "go.mod": "", "compose.yaml": "services: {db: {image: postgres:17}}"})
    ran = sandbox("init", "--no-setup", "--no-services", "--no-packages", "--mount", "ro", "--json")
    data = json.loads(ran.out)
    assert {tuple(item["path"]) for item in data["proposals"]} == {("endpoints",)}
    assert (data["template"], data["written"], data["source"]) == ("shell", True, None)
    text = written(sandbox)
    assert "npm ci" not in text and "compose.yaml" not in text and "docker-hub" not in text and "golang-go" not in text
    assert "  - .:/workspace:ro\n" in text or "    mode: ro\n" in text


def test_another_place(sandbox: CommandLine) -> None:
    (sandbox.project / "other").mkdir()
    assert "wrote other/Sandboxfile.yaml" in sandbox("init", "shell", "other").out
    assert "wrote other/mine.yaml" in sandbox("init", "shell", "-o", "other/mine.yaml").out
    assert "wrote other/more.yaml" in sandbox("init", "other/more.yaml").out
    assert sandbox("validate", "other/mine.yaml").code == 0
    (sandbox.project / "third").mkdir()
    assert "wrote third/Sandboxfile.yaml from the template shell" in sandbox("init", "third").out


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (("claud-code",), "there is no template 'claud-code'\nhint: did you mean 'claude-code'?"),
        (("zzz",), "hint: the templates are amp, claude-code, "),
        (("shell", "nowhere"), "nowhere is no directory\nhint: make it first: mkdir -p nowhere"),
        (("shell", "nowhere/a.yaml"), "nowhere is no directory"),
        (("shell", ".", "-o", "."), "PATH and --output are the same"),
        (("--from", "nowhere"), "nowhere does not exist"),
        (("shell", "--mount", "sideways"), "'sideways' is not one of"),
        (("shell", ".", "more"), "unexpected extra argument"),
    ],
)
def test_bad_usage(sandbox: CommandLine, argv: tuple[str, ...], said: str) -> None:
    ran = sandbox("init", *argv)
    assert (ran.code, ran.out) == (2, "") and said in ran.err
    assert list(sandbox.project.iterdir()) == []


@pytest.mark.parametrize("name", ["Sandboxfile.yaml", "Sandboxfile.yml"])
def test_nothing_is_overwritten(sandbox: CommandLine, name: str) -> None:
    sandbox.file("mine", name)
    for extra in ((), ("--yes",)):
        ran = sandbox("init", "shell", *extra)
        assert ran.code == 2 and f"there is a {name} already" in ran.err
    assert (sandbox.project / name).read_text() == "mine" and len(list(sandbox.project.iterdir())) == 1


def test_overwriting_when_told(sandbox: CommandLine) -> None:
    sandbox.file("mine")
    assert sandbox("init", "shell", "--force").code == 0
    assert written(sandbox).startswith("# A shell")


def test_printing(sandbox: CommandLine) -> None:
    sandbox.file("mine")
    fill(sandbox, {"package.json": "{"})
    for flag in ("--print", "--dry-run"):
        ran = sandbox("init", "shell", flag)
        assert ran.code == 0 and ran.out.startswith("# A shell") and "next:" not in ran.out
        assert ran.err.startswith("note: package.json cannot be read: ")
    data = json.loads(sandbox("init", "shell", "--print", "--json").out)
    assert data["written"] is False and data["text"] == ran.out
    assert written(sandbox) == "mine"


def test_gitignore(sandbox: CommandLine) -> None:
    ignore = sandbox.file("a\n", ".gitignore")
    assert sandbox("init", "shell", "--force").code == 0 and ignore.read_text() == "a\n"
    ran = sandbox("init", "shell", "--force", "--gitignore")
    assert "added Sandboxfile.local.yaml to .gitignore" in ran.out
    assert ignore.read_text() == "a\nSandboxfile.local.yaml\n"
    assert "added" not in sandbox("init", "shell", "--force", "--gitignore").out
    ignore.unlink()
    assert sandbox("init", "shell", "--force", "--gitignore").code == 0 and not ignore.exists()


def test_converting(sandbox: CommandLine) -> None:
    fill(sandbox, {"compose.yaml": "services:\n  a:\n    image: x\n    nonsense: 1\n"})
    ran = sandbox("init", "--from", "compose.yaml")
    assert ran.code == 0 and ran.err == ""
    assert "wrote Sandboxfile.yaml from compose.yaml and the template shell" in ran.out
    assert "not carried over from compose.yaml:\n  4:5  services.a  left out whole: nonsense: unknown key\n" in ran.out
    data = json.loads(sandbox("init", "claude-code", "--from", "compose.yaml", "--print", "--json").out)
    assert data["left_out"] == [
        {"path": "services.a", "line": 4, "column": 5, "reason": "left out whole: nonsense: unknown key"}
    ]
    assert data["template"] == "claude-code" and data["source"] == str(sandbox.project / "compose.yaml")


def test_a_compose_file_that_cannot_be_taken_over(sandbox: CommandLine) -> None:
    fill(sandbox, {"compose.yaml": "services: {a: {image: x, nonsense: 1}}", **PACKAGE})
    ran = sandbox("init")
    said = "note: compose.yaml was not taken over: unknown key; `sandbox init --from compose.yaml` converts what can be"
    assert ran.code == 0 and said in ran.out
    assert "npm ci" in written(sandbox) and "docker-hub" not in written(sandbox) and "compose" not in written(sandbox)


def test_a_broken_source(sandbox: CommandLine) -> None:
    fill(sandbox, {"compose.yaml": "services:\n\tx: 1\n"})
    ran = sandbox("init", "--from", "compose.yaml")
    assert (ran.code, ran.out) == (2, "") and "compose.yaml:2:1: a tab cannot indent YAML" in ran.err


def test_a_hostile_project_cannot_steer_a_terminal(sandbox: CommandLine) -> None:
    evil = "\x1b]0;owned\x07\x1b[2J"
    services = json.dumps({"services": {evil: {"image": f"evil.example/{evil}", "ports": [evil]}}})
    fill(sandbox, {"package.json": json.dumps({"packageManager": f"npm@1{evil}", "engines": {"node": f"99{evil}"}})})
    fill(sandbox, {"compose.yaml": services, "Gemfile": f"source 'https://a{evil}.example'\n"})
    fill(sandbox, {"env.json": json.dumps({"name": evil, "features": {evil: {}}, "containerEnv": {evil: evil}})})
    for argv in ((), ("--from", "compose.yaml"), ("--from", "env.json")):
        ran = sandbox("init", *argv, "--force")
        assert ran.code == 0 and "\x1b" not in ran.out + ran.err + written(sandbox) and "\x07" not in ran.out
        assert sandbox("validate").code == 0


class Talk:
    """`sandbox init` on a terminal."""

    def __init__(self, sandbox: CommandLine, *argv: str) -> None:
        self.child = pexpect.spawn(
            sys.executable,
            ["-m", "engine.cli.main", "init", *argv],
            cwd=str(sandbox.project),
            env={**sandbox.environment(), "TERM": "dumb", "COLUMNS": "200"},
            timeout=DEADLINE_S,
            encoding="utf-8",
            dimensions=(50, 200),
        )

    def answer(self, question: str, answer: str) -> None:
        self.child.expect_exact(question)
        self.child.sendline(answer)

    def end(self) -> tuple[int | None, str]:
        self.child.expect(pexpect.EOF)
        said = str(self.child.before)
        self.child.close()
        return self.child.exitstatus, said


def test_questions(sandbox: CommandLine) -> None:
    fill(sandbox, {**PACKAGE, "go.mod": "", "compose.yaml": "services: {db: {image: postgres:17}}", ".gitignore": ""})
    talk = Talk(sandbox)
    talk.answer("Number or name [shell]:", "claud")
    talk.answer("did you mean 'claude-code'?", "claude-code")
    talk.child.expect_exact("Packages that this project seems to need")
    talk.answer("Install them? [Y/n]:", "n")
    talk.child.expect_exact("from package-lock.json")
    talk.answer("Run that once, to prepare the machine? [Y/n]:", "")
    talk.answer("Start them? [Y/n]:", "y")
    talk.answer("none: not at all (rw, ro, clone, none) [rw]:", "ro")
    talk.answer("to .gitignore? [Y/n]:", "y")
    code, said = talk.end()
    assert code == 0 and "wrote Sandboxfile.yaml from the template claude-code" in said
    text = written(sandbox)
    assert (
        "use: claude-code" in text and "npm ci" in text and "golang-go" not in text and "include: compose.yaml" in text
    )
    assert "mode: ro" in text and (sandbox.project / ".gitignore").read_text() == "Sandboxfile.local.yaml\n"


def test_defaults_of_the_questions(sandbox: CommandLine) -> None:
    fill(sandbox, {"GEMINI.md": ""})
    talk = Talk(sandbox)
    talk.answer("Number or name [gemini]:", "")
    talk.answer("[rw]:", "")
    code, said = talk.end()
    assert code == 0 and "wrote Sandboxfile.yaml from the template gemini" in said


def test_asking_before_overwriting(sandbox: CommandLine) -> None:
    sandbox.file("mine")
    talk = Talk(sandbox, "shell")
    talk.answer("There is a Sandboxfile.yaml already. Overwrite it? [y/N]:", "")
    code, said = talk.end()
    assert code == 1 and "nothing was written" in said and written(sandbox) == "mine"
    talk = Talk(sandbox, "shell", "--mount", "rw")
    talk.answer("Overwrite it? [y/N]:", "y")
    assert talk.end()[0] == 0 and written(sandbox) != "mine"


def test_interrupting(sandbox: CommandLine) -> None:
    talk = Talk(sandbox)
    talk.child.expect_exact("Number or name")
    talk.child.sendintr()
    code, said = talk.end()
    assert code == 130 and "interrupted" in said and list(sandbox.project.iterdir()) == []


def test_yes_asks_nothing_on_a_terminal(sandbox: CommandLine) -> None:
    fill(sandbox, PACKAGE)
    code, said = Talk(sandbox, "--yes").end()
    assert code == 0 and "[Y/n]" not in said and "npm ci" in written(sandbox)


def test_completion_of_templates(sandbox: CommandLine) -> None:
    ran = sandbox(_SANDBOX_COMPLETE="bash_complete", COMP_WORDS="sandbox init cl", COMP_CWORD="2")
    assert "plain,claude-code" in ran.out


def test_what_listing_costs(sandbox: CommandLine, tmp_path: Path) -> None:
    """The list, and completion, read first lines and directories: no YAML, no models."""
    import subprocess

    program = (
        "import sys; from engine.cli.main import main\ntry: main(['init', '--list'])\nfinally: print(*sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=sandbox.environment(),
        check=True,
    )
    assert not {"pydantic", "ruamel", "networkx"} & set(done.stdout.split())


def test_what_comes_next_names_a_file_elsewhere(sandbox: CommandLine) -> None:
    (sandbox.project / "a b").mkdir()
    for where, named in (("a b", " 'a b'"), ("foo.yaml", " foo.yaml"), (".", "")):
        said = sandbox("init", "shell", where, "--yes").out
        assert [line.split("  ")[1] for line in said.splitlines()[-2:]] == [
            f"sandbox validate{named}",
            f"sandbox up{named}",
        ]
        assert sandbox("validate", *([where] if named else [])).code == 0


def test_a_gitignore_that_is_not_there_is_told(sandbox: CommandLine) -> None:
    ran = sandbox("init", "shell", "--yes", "--gitignore")
    assert ran.code == 0 and "note: Sandboxfile.local.yaml is not added: there is no .gitignore" in ran.err


def test_the_tutorial_shows_what_init_says_and_writes(sandbox: CommandLine) -> None:
    tutorial = (Path(__file__).parents[3] / "docs" / "tutorial.md").read_text(encoding="utf-8")
    said, _, rest = tutorial.partition("    wrote Sandboxfile.yaml ")[2].partition("\n\n")
    shown = rest.partition("```yaml\n")[2].partition("```")[0]
    (sandbox.project / "requirements.txt").write_text("flask\n")
    (sandbox.project / "app.py").write_text("import flask\n")
    ran = sandbox("init", "shell", "--yes")
    assert ran.out.startswith(textwrap.dedent(f"    wrote Sandboxfile.yaml {said}\n"))
    path = sandbox.project / "Sandboxfile.yaml"
    assert parse(shown, path).sandbox == parse(path.read_text(), path).sandbox
