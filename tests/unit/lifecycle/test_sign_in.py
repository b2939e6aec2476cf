"""Whether an agent can sign in, and what is said where it cannot, before anything is built."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from engine.errors import EngineError
from engine.lifecycle.audience import Audience
from engine.lifecycle.credentials import Credentials, compare_kinds, read_credentials
from engine.lifecycle.intent import Intent, Wishes
from engine.lifecycle.members import Member
from engine.lifecycle.sign_in import MissingCredential, missing_credential, optional_secrets
from engine.lifecycle.up import _sign_in
from engine.secrets.errors import SecretError
from engine.state.instances import Listed
from engine.state.layout import Layout
from sandboxfile import Loaded, load

KEY, TOKEN = "sk-ant-api03-of-the-user-alone", "sk-ant-oat01-of-the-user-alone"
SIGNED = "endpoints: [{host: api.anthropic.com, secret: anthropic}]\nsecrets: {anthropic: {env: MY_KEY}}\n"


@pytest.fixture
def layout(monkeypatch: pytest.MonkeyPatch) -> Layout:
    monkeypatch.delenv("MY_KEY", raising=False)
    return Layout.from_environment(os.environ)


def a_file(directory: Path, text: str = SIGNED, agent: str = "{use: claude-code}") -> Loaded:
    path = directory / "Sandboxfile.yaml"
    path.write_text(f'version: "1"\nname: shop\nagent: {agent}\n{text}')
    return load(path)


def lack(loaded: Loaded, layout: Layout) -> MissingCredential | None:
    credentials = read_credentials(loaded, layout, optional_secrets(loaded))
    return missing_credential("shop", loaded, credentials)


def test_a_secret_without_a_value_is_told_with_its_places_and_one_command(tmp_path: Path, layout: Layout) -> None:
    missing = lack(a_file(tmp_path), layout)
    assert missing is not None
    assert missing.brief == "Claude Code has no credential: the secret anthropic has no value"
    assert missing.looked[0] == "variable MY_KEY is not set" and "keyring entry anthropic" in missing.looked[1]
    assert missing.hint == "`sandbox secret set anthropic` gives it one"
    assert missing.error().exit_code == 2


def test_one_that_is_there_is_nothing_to_tell_of(
    tmp_path: Path, layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_KEY", KEY)
    assert lack(a_file(tmp_path), layout) is None


def test_a_file_that_gives_its_agent_no_secret(tmp_path: Path, layout: Layout) -> None:
    missing = lack(a_file(tmp_path, "endpoints: [api.anthropic.com]\n"), layout)
    assert missing is not None and missing.looked == ()
    assert "`- {host: api.anthropic.com, secret: anthropic}` in `endpoints`" in missing.hint
    assert "`anthropic: {env: ANTHROPIC_API_KEY}` in `secrets`" in missing.hint
    assert "`sandbox secret set anthropic`" in missing.hint


@pytest.mark.parametrize("text", ["", "endpoints: [npm, pypi]\n"])
def test_a_file_that_forgets_the_hosts_of_its_agent(tmp_path: Path, layout: Layout, text: str) -> None:
    missing = lack(a_file(tmp_path, text), layout)
    assert missing is not None
    assert missing.brief == (
        "Claude Code cannot work: no endpoint of the file lets it reach its models, such as api.anthropic.com"
    )
    assert "`- {host: api.anthropic.com, secret: anthropic}` in `endpoints`" in missing.hint
    assert lack(a_file(tmp_path, text, "{use: claude-code, env: {ANTHROPIC_API_KEY: x}}"), layout) is None


@pytest.mark.parametrize(
    ("text", "agent"),
    [
        ("endpoints: [{host: localhost, port: 11434, as: ollama}]\n", "{use: claude-code}"),
        ("endpoints: [api.anthropic.com]\n", "{use: claude-code, env: {ANTHROPIC_API_KEY: of-a-test-server}}"),
        ("endpoints: [cli.kiro.dev]\n", "{use: kiro}"),
        ("endpoints: [api.anthropic.com]\n", "{command: claude}"),
        ("endpoints: [{host: api.anthropic.com, deny: true}]\n", "{use: claude-code}"),
    ],
    ids=["a model of the host", "a credential in the file", "signs in inside", "not known", "denied"],
)
def test_what_works_without_is_left_alone(tmp_path: Path, layout: Layout, text: str, agent: str) -> None:
    assert lack(a_file(tmp_path, text, agent), layout) is None


def test_another_secret_that_is_missing_is_an_error_as_ever(tmp_path: Path, layout: Layout) -> None:
    more = SIGNED.replace("endpoints: [", "endpoints: [{host: api.github.com, secret: github}, ")
    loaded = a_file(tmp_path, more.replace("secrets: {", "secrets: {github: {env: NOT_SET}, "))
    with pytest.raises(SecretError, match="github"):
        read_credentials(loaded, layout, optional_secrets(loaded))


class Hears(Audience):
    def __init__(self, answer: bool | None) -> None:
        self.answer = answer
        self.heard: list[str] = []

    def ask(self, question: object) -> bool | None:
        self.heard.append("asked")
        return self.answer

    def lacks(self, missing: MissingCredential) -> None:
        self.heard.append(missing.agent)


def intent(loaded: Loaded, layout: Layout) -> Intent:
    return Intent(Member("shop", loaded), layout, "auto", Listed("shop", "stopped", "stopped"), None)


@pytest.mark.parametrize(
    ("answer", "wishes", "heard"),
    [
        (True, Wishes(), ["asked"]),
        (None, Wishes(), ["asked", "claude-code"]),
        (None, Wishes(yes=True), ["claude-code"]),
    ],
    ids=["yes", "nobody is there", "--yes"],
)
def test_up_asks_or_warns_and_goes_on(
    tmp_path: Path, layout: Layout, answer: bool | None, wishes: Wishes, heard: list[str]
) -> None:
    audience, one = Hears(answer), intent(a_file(tmp_path), layout)
    _sign_in(one, wishes, audience)
    assert audience.heard == heard
    assert one.credentials.places.missing == ("anthropic",)
    assert one.credentials.held["anthropic"].placeholder == "proxy-managed", "the agent asks for no login"


def test_up_ends_where_the_user_sets_it_first_and_run_in_any_case(tmp_path: Path, layout: Layout) -> None:
    one = intent(a_file(tmp_path), layout)
    with pytest.raises(EngineError, match="nothing was started") as caught:
        _sign_in(one, Wishes(), Hears(False))
    assert caught.value.hint == "`sandbox secret set anthropic` gives it one"
    with pytest.raises(EngineError, match="has no credential") as caught:
        _sign_in(one, Wishes(yes=True, for_task=True), Hears(True))
    assert caught.value.exit_code == 2


def test_another_kind_of_credential_is_a_change(
    tmp_path: Path, layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = a_file(tmp_path)
    monkeypatch.setenv("MY_KEY", TOKEN)
    (change,) = compare_kinds(loaded, layout, {"anthropic": "key"})
    assert (change.path, change.how) == ("secrets.anthropic", "live") and change.what.startswith("key -> oauth")
    assert compare_kinds(loaded, layout, {"anthropic": "oauth"}) == []
    assert [each.what for each in compare_kinds(loaded, layout, {"anthropic": ""})] == ["has a value now"]
    assert compare_kinds(loaded, layout, {}) == [], "the record of an older version says nothing"


def test_a_command_of_the_user_is_not_asked_for_a_comparison(tmp_path: Path, layout: Layout) -> None:
    layout.secret_settings.parent.mkdir(parents=True, exist_ok=True)
    layout.secret_settings.write_text("anthropic: {command: [touch, /nowhere/asked]}\n")
    layout.secret_settings.chmod(0o600)
    assert compare_kinds(a_file(tmp_path), layout, {"anthropic": "key"}) == []


def test_what_guests_held_before_is_known_by_the_kind(
    tmp_path: Path, layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_KEY", TOKEN)
    credentials = read_credentials(a_file(tmp_path), layout)
    assert credentials.forms() == {"anthropic": "oauth"}
    assert credentials.of_forms({"anthropic": "key"}).held["anthropic"].placeholder == "proxy-managed"
    assert Credentials().forms() == {}
