"""A user's first secret: from `sandbox init` to a request with the real header, and how often one is asked."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pexpect
import pytest
from cli_world import DEADLINE_S, CommandLine

from engine.state.layout import Layout

REQUEST = str(Path(__file__).with_name("first_request.py"))
VALUE = "sk-ant-api03-0123456789abcdef"
PROMPT = "(?:Value of anthropic \\(not shown\\)|Allow this\\? \\[y/N\\]): "


def on_a_terminal(sandbox: CommandLine, argv: list[str], *typed: str, **env: str) -> tuple[int, str, int]:
    """Exit code, what was shown, and how many questions were asked."""
    child = pexpect.spawn(
        sys.executable,
        argv,
        cwd=str(sandbox.project),
        env={**sandbox.environment(TERM="dumb"), **env},
        dimensions=(50, 200),
        timeout=DEADLINE_S,
        encoding="utf-8",
    )
    shown, asked = "", 0
    while child.expect([PROMPT, pexpect.EOF]) == 0:
        shown += f"{child.before}{child.after}"
        child.sendline(typed[asked])
        asked += 1
    shown += child.before or ""
    child.wait()
    assert child.exitstatus is not None
    return child.exitstatus, shown.replace("\r\n", "\n"), asked


def init(sandbox: CommandLine, layout: Layout) -> None:
    """`sandbox init claude-code`, with a command in the place of the agent's definition."""
    code, shown, asked = on_a_terminal(sandbox, ["-m", "engine.cli.main", "init", "claude-code"])
    assert (code, asked) == (0, 0), shown
    file = sandbox.project / "Sandboxfile.yaml"
    file.write_text(file.read_text().replace("use: claude-code", "command: [claude]"))


def got(shown: str) -> Any:
    return json.loads(next(line for line in shown.splitlines() if line.startswith("GOT ")).removeprefix("GOT "))


def check(found: Mapping[str, Any], value: str = VALUE) -> None:
    assert found["held"] == "proxy-managed"
    ((head),) = found["requests"]
    assert head["x-api-key"] == [value] and "authorization" not in head


@pytest.mark.parametrize("keyring", [True, False], ids=["a keyring", "none, as over ssh"])
def test_two_questions_from_init_to_the_first_request(
    sandbox: CommandLine, layout: Layout, tmp_path: Path, keyring: bool
) -> None:
    env = {}
    if keyring:
        support = str(Path(__file__).parents[2] / "support")
        path = f"{sandbox.environment()['PYTHONPATH']}:{support}"
        env = {
            "PYTHON_KEYRING_BACKEND": "fake_keyring.Keyring",
            "FAKE_KEYRING": str(tmp_path / "k"),
            "PYTHONPATH": path,
        }
    init(sandbox, layout)
    code, shown, first = on_a_terminal(sandbox, ["-m", "engine.cli.main", "secret", "set", "anthropic"], VALUE, **env)
    assert code == 0 and VALUE not in shown, shown
    assert ("in the keyring (fake)" if keyring else "which only you can read") in shown
    code, shown, second = on_a_terminal(sandbox, [REQUEST], "y", **env)
    assert code == 0, shown
    assert "api.anthropic.com" in shown and VALUE not in shown.partition("GOT ")[0]
    check(got(shown))
    assert first + second == 2
    code, shown, again = on_a_terminal(sandbox, [REQUEST], **env)
    assert (code, again) == (0, 0)
    check(got(shown))


def test_a_variable_needs_one_question_and_in_ci_none(sandbox: CommandLine, layout: Layout) -> None:
    init(sandbox, layout)
    env = sandbox.environment(ANTHROPIC_API_KEY=VALUE)
    argv = [sys.executable, REQUEST]

    def alone(*options: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*argv, *options], cwd=sandbox.project, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True
        )

    refused = alone()
    assert refused.returncode != 0 and "--yes" in refused.stderr and "GOT" not in refused.stdout
    done = alone("--yes")
    assert done.returncode == 0, done.stderr
    check(got(done.stdout))
    code, shown, asked = on_a_terminal(sandbox, [REQUEST], "y", ANTHROPIC_API_KEY=VALUE)
    assert code == 0 and asked <= 1, shown
    check(got(shown))


def test_without_a_value_up_says_what_gives_it_one(sandbox: CommandLine, layout: Layout) -> None:
    init(sandbox, layout)
    code, shown, asked = on_a_terminal(sandbox, [REQUEST], "y")
    assert code == 1 and asked == 1
    assert "the secret anthropic has no value" in shown and "`sandbox secret set anthropic` gives it one" in shown


def test_a_command_is_asked_once_by_up_and_its_supervisor_together(
    sandbox: CommandLine, layout: Layout, tmp_path: Path
) -> None:
    init(sandbox, layout)
    asked = tmp_path / "asked"
    code = f"open({str(asked)!r}, 'a').write('x'); print({VALUE!r})"
    layout.secret_settings.parent.mkdir(parents=True, exist_ok=True)
    layout.secret_settings.write_text(json.dumps({"anthropic": {"command": [sys.executable, "-c", code]}}))
    layout.secret_settings.chmod(0o600)
    status, shown, _ = on_a_terminal(sandbox, [REQUEST], "y")
    assert status == 0, shown
    check(got(shown))
    assert asked.read_text() == "x"
