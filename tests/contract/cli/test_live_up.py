"""`plan` and `up` beside a sandbox that runs: what is said, what is asked for, and what is left alone."""

from __future__ import annotations

import json
import os
import pty
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from cli_world import DEADLINE_S, CommandLine, FakeSandbox, Ran, start_fake

from engine.build.blueprint import Blueprint
from engine.state.configuration import Running, save_running
from engine.state.layout import Layout
from sandboxfile import load

HEAD = 'version: "1"\nname: shop\n'
BEFORE = """
agent: {command: sh, env: {WORD: one}}
ports: ["8080:80"]
services:
  web: {image: "web:1"}
"""


def runs_with(sandbox: CommandLine, layout: Layout, text: str, name: str = "shop", **about: Any) -> None:
    """The sandbox `name` was started with this file."""
    loaded = load(sandbox.file(text if text.startswith("version") else HEAD + text))
    one = next(one for one in loaded.each() if one.sandbox.name == name)
    configuration = Blueprint.of(one, layout).configuration
    save_running(layout, name, Running(configuration, (80, 443), "/nowhere", **about))


def asked(layout: Layout, name: str = "shop") -> dict[str, Any] | None:
    """What the supervisor was asked to change."""
    path = layout.instance(name).record.with_name("asked.json")
    return dict(json.loads(path.read_text())) if path.exists() else None


def running_part(ran: Ran) -> str:
    """What `plan` says behind the build."""
    return ran.out.partition("to build\n\n")[2]


def test_plan_says_what_would_change_and_how(sandbox: CommandLine, layout: Layout, fake: FakeSandbox) -> None:
    runs_with(sandbox, layout, BEFORE)
    assert running_part(sandbox("plan")) == "shop runs, unchanged\n"
    sandbox.file(
        HEAD
        + """
agent: {command: sh, env: {WORD: two}}
machine: {memory: 4GiB}
setup: [echo hello]
endpoints: [api.example.com, "db.example.com:5433"]
ports: ["8080:80", "3000:3000"]
services:
  web: {image: "web:2"}
  cache: {image: cache}
"""
    )
    assert running_part(sandbox("plan")) == (
        "shop runs; `up` would change:\n"
        "  agent.env.WORD      live         changed\n"
        "  machine.memory      new machine  2GiB -> 4GiB\n"
        "  setup               new machine  + echo hello\n"
        "  endpoints           live         + api.example.com\n"
        "  endpoints           new machine  + db.example.com:5433 (a new port needs a new machine)\n"
        "  services.web.image  live         web:1 -> web:2\n"
        "  services.cache      live         added\n"
        "  ports               live         + 3000:3000\n"
        "This needs a new machine; what is only on the guest's own disk is lost.\n"
    )
    document = json.loads(sandbox("plan", "--json").out)
    assert document["version"] == 1 and document["steps"]
    assert document["running"]["name"] == "shop"
    assert document["running"]["changes"][1] == {
        "path": "machine.memory",
        "how": "new machine",
        "what": "2GiB -> 4GiB",
    }
    assert asked(layout) is None


def test_plan_of_live_changes_says_that_nothing_is_built_for_them(
    sandbox: CommandLine, layout: Layout, fake: FakeSandbox
) -> None:
    runs_with(sandbox, layout, BEFORE)
    sandbox.file(HEAD + BEFORE.replace("web:1", "web:2"))
    assert running_part(sandbox("plan")) == (
        "shop runs; `up` would change:\n"
        "  services.web.image  live  web:1 -> web:2\n"
        "What is to build is for its next start: nothing of it is needed now.\n"
    )


def test_plan_of_what_is_not_running(sandbox: CommandLine, layout: Layout) -> None:
    sandbox.file(HEAD)
    assert running_part(sandbox("plan")) == "shop does not run: `up` starts it\n"
    assert json.loads(sandbox("plan", "--json").out)["running"] is None
    assert running_part(sandbox("plan", "--name", "other")) == "other does not run: `up` starts it\n"
    ran = sandbox("plan", "--name", "O t h e r")
    assert ran.code == 2 and "is not a sandbox name" in ran.err


def test_plan_shows_what_of_a_mount_is_on_the_guests_own_disk(sandbox: CommandLine, layout: Layout) -> None:
    sandbox.file(HEAD + "mounts:\n  - {source: ., target: /w, mode: ro, local: [x, y]}\n")
    ran = sandbox("plan")
    assert ran.code == 0 and "/w  on the guest's own disk: x, y\n" in ran.out
    assert json.loads(sandbox("plan", "--json").out)["mounts"][0]["local"] == ["x", "y"]


def test_plan_of_a_name_that_another_project_has(sandbox: CommandLine, fake: FakeSandbox, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "Sandboxfile.yaml").write_text(HEAD)
    ran = sandbox("plan", cwd=tmp_path / "other")
    assert ran.code == 1 and f"the name shop is taken by {sandbox.project}" in ran.err


def test_up_asks_for_the_changes_and_nothing_else(sandbox: CommandLine, layout: Layout, fake: FakeSandbox) -> None:
    runs_with(sandbox, layout, BEFORE)
    sandbox.file(HEAD + BEFORE.replace("one", "two").replace('"8080:80"', '"8080:80", 90'))
    ran = sandbox("up", "-d", "--yes", "--progress", "plain")
    assert ran.code == 0, ran.err
    assert "  agent.env.WORD  live  changed\n  ports           live  + 90\n" in ran.err
    assert "[shop] work in progress\n[shop] more\n" in ran.err
    assert "shop was changed while it runs, in " in ran.out and "  changed    ports: + 90\n" in ran.out
    request = asked(layout)
    assert request is not None and list(request["parts"]) == ["ports", "record"]
    assert request["parts"]["record"] == ["agent", "machine"] and request["images"] == []
    assert request["agent"] == {"command": ["sh"], "user": "agent", "env": {"WORD": "two"}}
    kept, picked = request["forwards"]
    assert (kept["host_port"], kept["guest_port"], picked["guest_port"]) == (8080, 80, 90)
    assert fake.process.poll() is None


def test_up_json_has_what_was_applied(sandbox: CommandLine, layout: Layout, fake: FakeSandbox) -> None:
    runs_with(sandbox, layout, BEFORE)
    answer = json.loads(sandbox("up", "--yes", "--json").out)
    assert (answer["name"], answer["applied"]) == ("shop", []) and asked(layout) is None
    sandbox.file(HEAD + BEFORE.replace("web:1", "web:2"))
    answer = json.loads(sandbox("up", "--yes", "--json").out)
    assert answer["applied"] == [{"path": "services.web.image", "how": "live", "what": "web:1 -> web:2"}]
    request = asked(layout)
    assert request is not None and list(request["parts"]) == ["services"]
    assert request["images"] == ["web"] and request["project"]["pulled"] == ["web"]
    assert request["rules"] == [] and request["files"] == []


def test_services_publish_ports_too(sandbox: CommandLine, layout: Layout, fake: FakeSandbox) -> None:
    runs_with(sandbox, layout, BEFORE)
    sandbox.file(HEAD + BEFORE.replace('"web:1"', '"web:1", ports: ["8555:80"]'))
    assert sandbox("up", "-d", "--yes").code == 0
    request = asked(layout)
    assert request is not None and list(request["parts"]) == ["ports", "services"]
    assert [forward["host_port"] for forward in request["forwards"]] == [8080, 8555]


def test_what_was_not_finished_is_asked_for_again(sandbox: CommandLine, layout: Layout, fake: FakeSandbox) -> None:
    runs_with(sandbox, layout, BEFORE, unfinished=("services",))
    assert "services  live  the last change of it did not come to its end" in sandbox("plan").out
    assert sandbox("up", "-d", "--yes").code == 0
    request = asked(layout)
    assert request is not None and list(request["parts"]) == ["services"] and request["images"] == ["web"]


def test_a_failure_says_what_was_changed_and_what_was_not(sandbox: CommandLine, layout: Layout) -> None:
    with start_fake(sandbox.forks, layout, sandbox.project, "shop", "--breaks=services") as fake:
        runs_with(sandbox, layout, BEFORE)
        sandbox.file(HEAD + BEFORE.replace("one", "two").replace("web:1", "web:2").replace("8080", "8081"))
        ran = sandbox("up", "-d", "--yes", "--progress", "quiet")
        assert ran.code == 1 and fake.process.poll() is None
        assert "error: shop could not be changed: it broke\n" in ran.err
        assert "  changed: ports; not changed, or only in part: services, record\n  the log says so\n" in ran.err
        assert "hint: mend it; the machine runs on, and `sandbox up` tries again what is left\n" in ran.err


@pytest.mark.parametrize(
    "changed",
    ["machine: {cpus: 1}", "packages: [jq]", "setup: [make]", "endpoints: ['a.b:99']", "agent: {command: a}\nname: x"],
)
def test_without_a_terminal_a_new_machine_needs_a_word(
    sandbox: CommandLine, layout: Layout, fake: FakeSandbox, changed: str
) -> None:
    runs_with(sandbox, layout, "services: {web: {image: web}}\n")
    record, before = fake.record(), layout.instance("shop").configuration.read_text()
    sandbox.file(f"version: '1'\nservices: {{web: {{image: 'web:2'}}}}\n{changed}\n")
    ran = sandbox("up", "-d", "--json", "-n", "shop")
    assert ran.code == 2 and "nothing was changed" in json.loads(ran.out)["diagnostics"][0]["message"]
    assert "shop runs, needs a new machine, and nobody is here to approve that: nothing was changed" in ran.err
    assert "new machine" in ran.err and "--recreate" in ran.err and "what is only on the guest's own disk" in ran.err
    assert "services.web.image" in ran.err, "all changes are shown, also those that would need no new machine"
    assert asked(layout) is None and fake.record() == record and fake.process.poll() is None
    assert layout.instance("shop").configuration.read_text() == before


def test_what_is_wrong_is_found_before_anything_is_changed(
    sandbox: CommandLine, layout: Layout, fake: FakeSandbox
) -> None:
    runs_with(sandbox, layout, BEFORE)
    sandbox.file(HEAD + BEFORE.replace("web:1", "web:2") + "  api: {build: ./not-there}\n")
    ran = sandbox("up", "-d", "--yes")
    assert ran.code == 2 and "'not-there' does not exist in the project" in ran.err
    assert asked(layout) is None


def test_an_unknown_past_needs_a_new_machine(sandbox: CommandLine, fake: FakeSandbox) -> None:
    sandbox.file(HEAD)
    assert "sandbox  new machine  what it was started with is not known" in sandbox("plan").out
    assert sandbox("up", "-d").code == 2


def answer(sandbox: CommandLine, word: str, *argv: str) -> tuple[int, str]:
    """Run the command line on a terminal, and say `word` when it asks. Returns the code and what was on the screen."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        sandbox.argv(*argv), cwd=sandbox.project, env=sandbox.environment(), stdin=theirs, stdout=theirs, stderr=theirs
    ) as process:
        os.close(theirs)
        screen = b""
        try:
            while data := os.read(ours, 4096):
                screen += data
                if screen.endswith(b"[y/N]: "):
                    os.write(ours, f"{word}\n".encode())
        except OSError:  # the other end is closed
            pass
        finally:
            os.close(ours)
        return process.wait(DEADLINE_S), screen.decode().replace("\r\n", "\n")


def test_on_a_terminal_it_asks(sandbox: CommandLine, layout: Layout, fake: FakeSandbox) -> None:
    runs_with(sandbox, layout, "")
    sandbox.file(f"{HEAD}machine: {{cpus: 1}}\n")
    code, screen = answer(sandbox, "n", "up", "-d")
    assert code == 1 and "  machine.cpus  new machine  2 -> 1\n" in screen
    assert "This needs a new machine; what is only on the guest's own disk is lost. Replace shop? [y/N]" in screen
    assert "not approved: nothing was changed" in screen and fake.process.poll() is None


CLAUDE = """
agent: {use: claude-code}
mounts: [".:/w"]
ports: ["8080:80"]
endpoints: [{host: api.anthropic.com, secret: anthropic}]
secrets: {anthropic: {env: MY_KEY}}
"""


def test_a_credential_of_another_kind_renews_what_the_agent_holds(
    sandbox: CommandLine, layout: Layout, fake: FakeSandbox
) -> None:
    runs_with(sandbox, layout, CLAUDE, kinds={"anthropic": "key"})
    assert sandbox("up", "-d", "--yes", MY_KEY="sk-ant-api03-0123456789abcdef").code == 0
    assert asked(layout) is None, "the same kind changes nothing"
    ran = sandbox("up", "-d", "--yes", "--progress", "plain", MY_KEY="sk-ant-oat01-0123456789abcdef")
    assert ran.code == 0, ran.err
    assert "secrets.anthropic  live  key -> oauth: the agent has to be started again" in ran.err
    request = asked(layout)
    assert request is not None and list(request["parts"]) == ["endpoints", "record"]
    assert request["kinds"] == {"anthropic": "oauth"}
    assert request["agent"]["env"]["CLAUDE_CODE_OAUTH_TOKEN"] == "sk-ant-oat01-proxy-managed"
    ((path, _, text),) = request["seeds"]
    assert path == "/home/agent/.claude/settings.json" and "apiKeyHelper" not in text
    (rule,) = [rule for rule in request["rules"] if rule["host"] == "api.anthropic.com"]
    assert rule["injections"][0]["header"] == "authorization"


def test_a_variable_that_this_terminal_lacks_changes_nothing(
    sandbox: CommandLine, layout: Layout, fake: FakeSandbox
) -> None:
    runs_with(sandbox, layout, CLAUDE, kinds={"anthropic": "key"})
    assert sandbox("up", "-d", "--yes").code == 0 and asked(layout) is None


AGENTS = HEAD + "agents: {one: {command: a}, two: {command: b}}\n"


@pytest.fixture
def members(sandbox: CommandLine, layout: Layout) -> Iterator[list[FakeSandbox]]:
    """The sandboxes of a file with two agents."""
    with ExitStack() as stack:
        yield [
            stack.enter_context(start_fake(sandbox.forks, layout, sandbox.project, f"shop-{name}", f"--member={name}"))
            for name in ("one", "two")
        ]


def test_plan_of_several_agents(sandbox: CommandLine, layout: Layout, members: list[FakeSandbox]) -> None:
    for name in ("shop-one", "shop-two"):
        runs_with(sandbox, layout, AGENTS, name)
    sandbox.file(AGENTS.replace("command: b", "command: b, ports: [8099]"))
    one, _, two = sandbox("plan").out.partition("\nshop-two:\n")
    assert one.startswith("shop-one:\n  QEMU") and one.endswith("shop-one runs, unchanged\n")
    assert "\nshop-two runs; `up` would change:\n  ports  live  + 8099\n" in two
    document = json.loads(sandbox("plan", "--json").out)
    assert document["version"] == 1 and [row["name"] for row in document["sandboxes"]] == ["shop-one", "shop-two"]
    assert [len(row["running"]["changes"]) for row in document["sandboxes"]] == [0, 1]
    alone = json.loads(sandbox("plan", "--json", "--agent", "two").out)
    assert alone["running"]["name"] == "shop-two" and "sandboxes" not in alone


def test_up_of_several_agents(sandbox: CommandLine, layout: Layout, members: list[FakeSandbox]) -> None:
    for name in ("shop-one", "shop-two"):
        runs_with(sandbox, layout, AGENTS, name)
    ran = sandbox("up")
    assert ran.code == 0 and ran.out.count("is already running, unchanged") == 2
    sandbox.file(AGENTS.replace("command: b", "command: b, ports: [8099]"))
    rows = json.loads(sandbox("up", "--yes", "--json").out)["sandboxes"]
    assert [(row["name"], len(row["applied"])) for row in rows] == [("shop-one", 0), ("shop-two", 1)]
    assert asked(layout, "shop-one") is None and asked(layout, "shop-two") is not None
    row = json.loads(sandbox("up", "--yes", "--json", "--agent", "one").out)
    assert row["name"] == "shop-one"


def test_one_name_for_several_is_refused(sandbox: CommandLine) -> None:
    sandbox.file(AGENTS)
    for command in ("up", "plan"):
        ran = sandbox(command, "--name", "x")
        assert ran.code == 2 and "--name needs --agent with one of one, two" in ran.err
        ran = sandbox(command, "--agent", "three")
        assert ran.code == 2 and "the file has no agent called three" in ran.err
    assert sandbox("plan", "--name", "x", "--agent", "one").code == 0


def test_one_that_needs_a_new_machine_keeps_all_from_being_changed(
    sandbox: CommandLine, layout: Layout, members: list[FakeSandbox]
) -> None:
    for name in ("shop-one", "shop-two"):
        runs_with(sandbox, layout, AGENTS, name)
    sandbox.file(AGENTS.replace("command: a", "command: c").replace("command: b", "command: b, packages: [jq]"))
    assert sandbox("up").code == 2
    assert asked(layout, "shop-one") is None and asked(layout, "shop-two") is None


def test_down_takes_all_that_up_started(sandbox: CommandLine, layout: Layout, members: list[FakeSandbox]) -> None:
    with start_fake(sandbox.forks, layout, sandbox.project, "shop-extra"):
        sandbox.file("no file is needed for that")
        ran = sandbox("down")
        assert (ran.code, ran.err) == (0, "taking down shop-extra, shop-one, shop-two\n")
        assert ran.out == "shop-extra is down\nshop-one is down\nshop-two is down\n"


def test_down_asks_for_a_name_where_names_were_given(sandbox: CommandLine, layout: Layout) -> None:
    with ExitStack() as stack:
        for name in ("shop", "shop-2"):
            stack.enter_context(start_fake(sandbox.forks, layout, sandbox.project, name))
        ran = sandbox("down")
        assert ran.code == 1 and "this project has several sandboxes: shop, shop-2" in ran.err
        assert sandbox("down", "shop").code == 0


@pytest.mark.parametrize(("times", "code"), [(1, 0), (3, 1)])
def test_what_changes_while_it_is_copied_is_copied_again(
    sandbox: CommandLine, layout: Layout, times: int, code: int
) -> None:
    """The supervisor says so; `up` looks at the project anew and asks again, three times at most."""
    (sandbox.project / "web").mkdir()
    (sandbox.project / "web/Dockerfile").write_text("FROM a\n")
    with start_fake(sandbox.forks, layout, sandbox.project, "shop", f"--changing={times}"):
        runs_with(sandbox, layout, "services: {web: {build: ./web}}\n")
        (sandbox.project / "web/Dockerfile").write_text("FROM b\n")
        ran = sandbox("up", "-d", "--yes", "--progress", "plain")
        asked_for = layout.instance("shop").record.with_name("asked.jsonl").read_text().splitlines()
    assert (ran.code, len(asked_for)) == (code, min(times + 1, 3)), ran.err
    assert "web changed while it was copied: once more with what is there now" in ran.err
    if code:
        assert "shop could not be changed: web keeps changing while it is copied" in ran.err
        assert "the machine runs on" in ran.err
    piece = json.loads(asked_for[-1])["project"]["contexts"]["web"][0]
    assert (piece["path"], piece["ignores"]) == ("web", ["web/Dockerfile.dockerignore", "web/.dockerignore"])
    assert json.loads(asked_for[-1])["configuration"]["contents"]["services.web.build"] == piece["key"]
