"""`sandbox secret`: what goes in is kept and used, and never comes out."""

from __future__ import annotations

import json
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pexpect
import pytest
from cli_world import DEADLINE_S, CommandLine, Ran
from vendor import Vendor, start_vendor

from engine.state.configuration import Configuration, Running, save_running
from engine.state.layout import Layout

HEAD = 'version: "1"\n'
EITHER = "variable MY_KEY, else keyring entry anthropic (in a file)"
VALUE = "sk-ant-api03-0123456789abcdef"
FILE = HEAD + "endpoints: [{host: api.anthropic.com, secret: anthropic}]\nsecrets: {anthropic: {env: MY_KEY}}\n"


def everything(sandbox: CommandLine, layout: Layout, ran: Ran) -> str:
    """All that could hold a value after a command: what it printed and did, and every file but the store."""
    files = [path for path in (*layout.state.rglob("*"), *sandbox.project.rglob("*"), *layout.cache.rglob("*"))]
    texts = [path.read_text(errors="replace") for path in files if path.is_file() and path != layout.secrets]
    return "\n".join((ran.out, ran.err, *sandbox.effects(), *texts))


def on_a_terminal(sandbox: CommandLine, *argv: str, **env: str) -> pexpect.spawn[str]:
    return pexpect.spawn(
        sys.executable,
        ["-m", "engine.cli.main", "secret", *argv],
        cwd=str(sandbox.project),
        env={**sandbox.environment(TERM="dumb"), **env},
        dimensions=(50, 200),
        timeout=DEADLINE_S,
        encoding="utf-8",
    )


def end(child: pexpect.spawn[str]) -> tuple[int, str]:
    child.expect(pexpect.EOF)
    child.wait()
    assert child.exitstatus is not None
    return child.exitstatus, (child.before or "").replace("\r\n", "\n")


def kept(layout: Layout) -> dict[str, str]:
    entries = json.loads(layout.secrets.read_text())["secrets"] if layout.secrets.exists() else {}
    return {name: entry["value"] for name, entry in entries.items()}


def running(layout: Layout, name: str, secrets: dict[str, object]) -> None:
    layout.instance(name).directory.mkdir(parents=True)
    save_running(layout, name, Running(Configuration({"secrets": secrets}, (), {}, {}), (), "image"))


@pytest.mark.parametrize("argv", [("github", "-"), ("github",)])
@pytest.mark.parametrize("line_end", ["", "\n", "\r\n"])
def test_from_standard_input(sandbox: CommandLine, layout: Layout, argv: tuple[str, ...], line_end: str) -> None:
    ran = sandbox("secret", "set", *argv, stdin=VALUE + line_end)
    assert (ran.code, ran.err) == (0, "")
    assert ran.out == f"kept github in {layout.secrets}, which only you can read: this system has no keyring\n"
    assert kept(layout) == {"github": VALUE} and layout.secrets.stat().st_mode & 0o777 == 0o600
    assert VALUE not in everything(sandbox, layout, ran)


def test_from_a_variable_and_from_a_file(sandbox: CommandLine, layout: Layout, tmp_path: Path) -> None:
    ran = sandbox("secret", "set", "a", "--from-env", "MY_KEY", MY_KEY=VALUE)
    assert ran.code == 0 and VALUE not in everything(sandbox, layout, ran)
    (tmp_path / "key").write_text(f"{VALUE}-2\n")
    ran = sandbox("secret", "set", "b", "--from-file", str(tmp_path / "key"))
    assert ran.code == 0 and VALUE not in everything(sandbox, layout, ran)
    assert kept(layout) == {"a": VALUE, "b": f"{VALUE}-2"}
    assert sandbox("secret", "set", "c", "--from-env", "NOT_SET").code == 2
    ran = sandbox("secret", "set", "c", "--from-file", str(tmp_path / "no"))
    assert ran.code == 1 and "cannot be read: No such file or directory" in ran.err


def test_from_the_terminal_where_it_is_not_shown(sandbox: CommandLine, layout: Layout) -> None:
    child = on_a_terminal(sandbox, "set", "github")
    child.expect_exact("Value of github (not shown): ")
    child.sendline(VALUE)
    code, shown = end(child)
    assert code == 0 and "kept github in" in shown and VALUE not in shown
    assert kept(layout) == {"github": VALUE}
    child = on_a_terminal(sandbox, "set", "long")
    child.expect_exact("Value of long (not shown): ")
    child.sendline("x" * 5000)
    code, shown = end(child)
    assert code == 1 and "a terminal takes 4095 characters of a line" in shown and kept(layout) == {"github": VALUE}
    child = on_a_terminal(sandbox, "set", "other")
    child.expect_exact("Value of other (not shown): ")
    child.send("\x03")
    assert end(child)[0] == 130 and kept(layout) == {"github": VALUE}


@pytest.mark.parametrize(
    "argv",
    [
        ("github", VALUE),
        ("github", "-", VALUE),
        ("github", VALUE, "-"),
        (f"github={VALUE}",),
        (VALUE + "-AbC",),
        ("github", f"--value={VALUE}"),
        ("github", "--value", VALUE),
        ("github", "-", "--from-env", "HOME"),
        ("github", "--from-env", VALUE),
    ],
)
def test_no_argument_is_a_value_and_none_is_repeated(
    sandbox: CommandLine, layout: Layout, argv: tuple[str, ...]
) -> None:
    ran = sandbox("secret", "set", *argv, stdin="")
    assert ran.code == 2 and kept(layout) == {}
    assert VALUE not in everything(sandbox, layout, ran)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "the value of standard input is empty"),
        ("\n", "the value of standard input is empty"),
        (f"{VALUE}\n{VALUE}\n", "has more than one line"),
        (f"{VALUE}\x00", "has characters that no header may have"),
        (f"{VALUE} ", "begins or ends with a space"),
        ("proxy-managed", "is the placeholder that guests hold"),
    ],
)
def test_what_cannot_be_a_value_is_refused_unseen(sandbox: CommandLine, layout: Layout, text: str, said: str) -> None:
    ran = sandbox("secret", "set", "github", stdin=text)
    assert ran.code == 1 and said in ran.err and kept(layout) == {}
    assert VALUE not in everything(sandbox, layout, ran)


def test_what_there_is(sandbox: CommandLine, layout: Layout, tmp_path: Path) -> None:
    sandbox("secret", "set", "anthropic", stdin=VALUE)
    sandbox("secret", "set", "work", stdin=VALUE)
    layout.config.mkdir()
    layout.secret_settings.write_text("gh: {command: [gh, auth, token]}\nopenai: {env: OPENAI_KEY}\n")
    sandbox.file(
        HEAD + "endpoints:\n"
        "  - {host: api.anthropic.com, secret: anthropic}\n"
        "  - {host: llm.example.com, secret: anthropic}\n"
        "  - {host: github.com, secret: github}\n"
        f"secrets: {{anthropic: {{env: MY_KEY}}, github: {{file: {tmp_path}/no}}, spare: {{keyring: work}}}}\n"
    )
    running(layout, "shop", {"anthropic": {"env": "MY_KEY"}, "x": {"keyring": "work"}})
    ran = sandbox("secret", "ls", OPENAI_KEY=VALUE)
    assert (ran.code, ran.err) == (0, "") and VALUE not in everything(sandbox, layout, ran)
    rows = [line.split("  ") for line in ran.out.splitlines()]
    assert [[cell.strip() for cell in row if cell] for row in rows] == [
        ["NAME", "THERE", "FROM", "GOES TO", "USED BY"],
        ["anthropic", "yes", EITHER, "api.anthropic.com llm.example.com", "shop"],
        ["gh", "?", "command gh", "-", "-"],
        ["github", "no", f"file {tmp_path}/no, else keyring entry github", "github.com", "-"],
        ["openai", "yes", "variable OPENAI_KEY", "-", "-"],
        ["spare", "yes", "keyring entry work (in a file)", "-", "-"],
        ["work", "yes", "keyring entry work (in a file)", "-", "shop"],
    ]  # fmt: skip
    assert sandbox.effects() == []  # no command was run
    found = {row["name"]: row for row in json.loads(sandbox("secret", "ls", "--json").out)}
    assert found["anthropic"]["there"] is True and found["anthropic"]["hosts"] == [
        "api.anthropic.com",
        "llm.example.com",
    ]
    assert found["gh"]["there"] is None and found["work"]["used_by"] == ["shop"] and found["work"]["set_at"]
    assert "value" not in found["work"] and VALUE not in json.dumps(found)


def test_nothing_is_kept(sandbox: CommandLine) -> None:
    ran = sandbox("secret", "ls")
    assert (ran.code, ran.out) == (0, "") and "`sandbox secret set NAME` keeps one" in ran.err
    assert sandbox("secret", "ls", "--json").out == "[]\n"


def test_removed_is_removed(sandbox: CommandLine, layout: Layout) -> None:
    sandbox("secret", "set", "github", stdin=VALUE)
    running(layout, "shop", {"github": {}})
    ran = sandbox("secret", "rm", "github")
    assert (ran.code, ran.out) == (0, "removed github, which shop used\n") and kept(layout) == {}
    assert VALUE not in layout.secrets.read_text()
    ran = sandbox("secret", "rm", "github")
    assert ran.code == 1 and "you keep no secret github" in ran.err and "`sandbox secret ls`" in ran.err


ENV_FILE = f"""\
# a comment
export ANTHROPIC_API_KEY="{VALUE}"
GEMINI_API_KEY={VALUE}-google
GOOGLE_API_KEY={VALUE}-google-2
STRIPE_SECRET_KEY='{VALUE}-stripe'
SHORT_TOKEN=dev
PORT=3000
NODE_ENV=production
EMPTY_TOKEN=
"""
NAMES = {"anthropic", "google", "google_api_key", "stripe_secret_key"}


def test_what_looks_like_a_credential_is_taken_over(sandbox: CommandLine, layout: Layout) -> None:
    sandbox.file(ENV_FILE, ".env")
    ran = sandbox("secret", "import", "--yes")
    assert ran.code == 0 and set(kept(layout)) == NAMES and kept(layout)["stripe_secret_key"] == f"{VALUE}-stripe"
    assert f"kept ANTHROPIC_API_KEY as anthropic in {layout.secrets}\n" in ran.out
    assert "note: the value of SHORT_TOKEN is shorter than 8 characters" in ran.err and "still in .env" in ran.err
    (sandbox.project / ".env").unlink()
    assert VALUE not in everything(sandbox, layout, ran)


def test_taking_over_asks_about_each(sandbox: CommandLine, layout: Layout) -> None:
    sandbox.file(ENV_FILE, "keys.env")
    ran = sandbox("secret", "import", "keys.env")
    assert ran.code == 2 and "--yes keeps all of them" in ran.err and kept(layout) == {}
    sandbox("secret", "set", "anthropic", stdin="an-earlier-value")
    child = on_a_terminal(sandbox, "import", "keys.env")
    child.expect_exact("Keep ANTHROPIC_API_KEY as anthropic, in the place of the one of 2")
    child.sendline("y")
    for variable, name in (("GEMINI_API_KEY", "google"), ("GOOGLE_API_KEY", "google_api_key")):
        child.expect_exact(f"Keep {variable} as {name}? [Y/n]: ")
        child.sendline("n")
    child.expect_exact("Keep STRIPE_SECRET_KEY as stripe_secret_key? [Y/n]: ")
    child.sendline("")
    code, shown = end(child)
    assert code == 0 and kept(layout) == {"anthropic": VALUE, "stripe_secret_key": f"{VALUE}-stripe"}
    assert VALUE not in shown


@pytest.mark.parametrize(("text", "said"), [("PORT=1\n", "nothing in .env that looks"), (None, ".env cannot be read")])
def test_a_file_with_nothing_in_it(sandbox: CommandLine, text: str | None, said: str) -> None:
    if text is not None:
        sandbox.file(text, ".env")
    ran = sandbox("secret", "import", "--yes")
    assert ran.code in (1, 2) and said in ran.err


def test_with_a_keyring_no_file_has_it(sandbox: CommandLine, layout: Layout, tmp_path: Path) -> None:
    env = {
        "PYTHON_KEYRING_BACKEND": "fake_keyring.Keyring",
        "FAKE_KEYRING": str(tmp_path / "keyring.json"),
        "PYTHONPATH": str(Path(__file__).parents[2] / "support"),
    }
    child = on_a_terminal(sandbox, "set", "github", **env)
    child.expect_exact("Value of github (not shown): ")
    child.sendline(VALUE)
    code, shown = end(child)
    assert code == 0 and "kept github in the keyring (fake)" in shown
    assert VALUE not in layout.secrets.read_text()
    assert json.loads((tmp_path / "keyring.json").read_text()) == {"sandbox/github": VALUE}


# -- check


@pytest.fixture
def vendor(tmp_path: Path) -> Iterator[Vendor]:
    with start_vendor(tmp_path, "api.anthropic.com", "api.github.com") as started:
        yield started


def test_the_vendor_takes_it(sandbox: CommandLine, layout: Layout, vendor: Vendor) -> None:
    sandbox("secret", "set", "anthropic", stdin=VALUE)
    ran = sandbox("secret", "check", "anthropic", **vendor.environment)
    assert (ran.code, ran.err) == (0, "")
    assert ran.out == "Anthropic takes anthropic, from keyring entry anthropic (api.anthropic.com said 200)\n"
    ((host, head),) = vendor.requests
    assert host == "api.anthropic.com" and head.startswith("GET /v1/models?limit=1 HTTP/1.1\r\n")
    assert f"X-Api-Key: {VALUE}\r\n" in head and "authorization" not in head.lower()
    assert VALUE not in everything(sandbox, layout, ran)


def test_a_token_of_a_subscription_goes_into_its_own_header(sandbox: CommandLine, vendor: Vendor) -> None:
    sandbox("secret", "set", "anthropic", stdin="sk-ant-oat01-0123456789")
    assert sandbox("secret", "check", "anthropic", **vendor.environment).code == 0
    head = vendor.requests[0][1].lower()
    assert "authorization: bearer sk-ant-oat01-0123456789\r\n" in head and "x-api-key" not in head
    assert "anthropic-beta: oauth-2025-04-20\r\n" in head


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (b"401 Unauthorized", "error: Anthropic does not take the value of keyring entry anthropic\n"),
        (b"403 Forbidden", "error: api.anthropic.com said 403, which tells nothing about anthropic\n"),
        (b"500 Broken", "error: api.anthropic.com said 500, which tells nothing about anthropic\n"),
        (b"302 Found\r\nLocation: https://evil.example/", "error: api.anthropic.com said 302, which tells nothing"),
    ],
)
def test_what_a_vendor_may_say(sandbox: CommandLine, layout: Layout, vendor: Vendor, status: bytes, said: str) -> None:
    body = f"no such key: {VALUE}".encode()
    vendor.answer = b"HTTP/1.1 %s\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s" % (status, len(body), body)
    sandbox("secret", "set", "anthropic", stdin=VALUE)
    ran = sandbox("secret", "check", "anthropic", **vendor.environment)
    assert (ran.code, ran.out) == (1, "") and ran.err.startswith(said)
    assert len(vendor.requests) == 1 and VALUE not in everything(sandbox, layout, ran)


def test_without_a_network(sandbox: CommandLine, layout: Layout, vendor: Vendor) -> None:
    sandbox("secret", "set", "anthropic", stdin=VALUE)
    ran = sandbox("secret", "check", "anthropic", HTTPS_PROXY="http://127.0.0.1:1")
    assert ran.code == 1 and "error: api.anthropic.com cannot be asked: Connection refused\n" in ran.err
    # A host that is not the vendor gets nothing.
    ran = sandbox("secret", "check", "anthropic", HTTPS_PROXY=vendor.environment["HTTPS_PROXY"])
    assert ran.code == 1 and "cannot be asked" in ran.err and vendor.requests == []
    assert VALUE not in everything(sandbox, layout, ran)


def test_one_that_does_not_answer(sandbox: CommandLine, layout: Layout) -> None:
    sandbox("secret", "set", "anthropic", stdin=VALUE)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        proxy = f"http://127.0.0.1:{silent.getsockname()[1]}"
        changes = {"engine.secrets.probe.ANSWER_S": 0.5}
        ran = sandbox("secret", "check", "anthropic", changes=changes, HTTPS_PROXY=proxy)
    assert ran.code == 1 and "api.anthropic.com cannot be asked" in ran.err


def test_whose_it_is(sandbox: CommandLine, vendor: Vendor) -> None:
    sandbox("secret", "set", "work", stdin="ghp_0123456789")
    ran = sandbox("secret", "check", "work", **vendor.environment)
    assert ran.code == 2 and "whose secret work is cannot be told" in ran.err and "--vendor" in ran.err
    assert sandbox("secret", "check", "work", "--vendor", "github", **vendor.environment).code == 0
    assert sandbox("secret", "check", "work", "--vendor", "nobody", **vendor.environment).code == 2
    sandbox.file(HEAD + "endpoints: [{host: api.github.com, secret: work}]\nsecrets: {work: {}}\n")
    assert sandbox("secret", "check", "work", **vendor.environment).code == 0
    assert [host for host, _ in vendor.requests] == ["api.github.com", "api.github.com"]
    ran = sandbox("secret", "check", "none", "--vendor", "github", **vendor.environment)
    assert ran.code == 1 and "error: the secret none has no value\n" in ran.err
    assert "hint: `sandbox secret set none` gives it one" in ran.err


def test_what_a_strangers_file_names_is_not_sent_unasked(sandbox: CommandLine, vendor: Vendor) -> None:
    """A cloned repository says: the secret anthropic is your AWS key."""
    sandbox.file(FILE.replace("MY_KEY", "AWS_SECRET_ACCESS_KEY"))
    env = {**vendor.environment, "AWS_SECRET_ACCESS_KEY": VALUE}
    ran = sandbox("secret", "check", "anthropic", **env)
    assert ran.code == 2 and "the file names variable AWS_SECRET_ACCESS_KEY, which you have not approved" in ran.err
    child = on_a_terminal(sandbox, "check", "anthropic", **env)
    child.expect_exact("The file names variable AWS_SECRET_ACCESS_KEY. Send its value to api.anthropic.com? [y/N]: ")
    child.sendline("")
    assert end(child)[0] == 1 and vendor.requests == []
    assert sandbox("secret", "check", "anthropic", "--yes", **env).code == 0


def test_the_users_own_places(sandbox: CommandLine, layout: Layout, vendor: Vendor) -> None:
    layout.config.mkdir()
    script = f"import os; print({VALUE[:10]!r} + {VALUE[10:]!r})"
    layout.secret_settings.write_text(json.dumps({"anthropic": {"command": [sys.executable, "-c", script]}}))
    sandbox.file(FILE)
    ran = sandbox("secret", "check", "anthropic", **vendor.environment)
    assert ran.code == 0 and f"from command {Path(sys.executable).name}" in ran.out
    assert VALUE in vendor.requests[0][1] and VALUE not in everything(sandbox, layout, ran)
    layout.secret_settings.chmod(0o666)
    ran = sandbox("secret", "check", "anthropic", **vendor.environment)
    assert ran.code == 1 and "can be written by others" in ran.err and len(vendor.requests) == 1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f"anthropic: {VALUE}\n", "must say where the value is, and never the value itself"),
        ("anthropic: {env: A, file: /b}\n", "needs one of `env`, `file` and `command`"),
        ("anthropic: {file: b}\n", "must be an absolute path"),
        ("anthropic: {comand: op}\n", "unknown key"),
        ("anthropic: {command: []}\n", "must be a program and its arguments"),
        ("anthropic: {command: op, every: 1}\n", "must be a number of seconds, 5 at least"),
        ("anthropic: {env: A, every: 10}\n", "belongs to a command"),
        ("- anthropic\n", "must be a mapping"),
        ("anthropic: {env: [}\n", ""),
        ("anthropic: {env: }\n", "must be a text"),
    ],
)
def test_a_configuration_with_a_problem(sandbox: CommandLine, layout: Layout, text: str, said: str) -> None:
    layout.config.mkdir()
    layout.secret_settings.write_text(text)
    ran = sandbox("secret", "ls")
    assert ran.code == 2 and said in ran.err and str(layout.secret_settings) in ran.err
    assert VALUE not in everything(sandbox, layout, ran)
