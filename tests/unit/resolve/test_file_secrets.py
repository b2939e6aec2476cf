"""The secrets of a file as places on this host."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.errors import EngineError
from engine.resolve.secrets import sources_of, used_secrets
from engine.secrets.settings import load_settings
from engine.secrets.sources import Source, command_source
from sandboxfile import Inputs, Loaded, SandboxfileError, load


@pytest.fixture
def loaded(tmp_path: Path) -> Loaded:
    (tmp_path / "link").symlink_to("elsewhere")
    (tmp_path / "Sandboxfile.yaml").write_text(
        """version: "1"
endpoints:
  - {host: api.github.com, secret: github}
  - {host: github.com, secret: github}
  - {host: db.example.com, secret: db}
  - npm
secrets:
  github: {env: GH_TOKEN}
  db: {file: link}
  plain: {}
  other: {keyring: staging}
  work: {keyring: gh}
  gh: {env: GH}
"""
    )
    return load(tmp_path / "Sandboxfile.yaml", Inputs(environment={}))


def test_where_each_is_looked_for(loaded: Loaded, tmp_path: Path) -> None:
    mine = command_source(["gh", "auth", "token"])
    assert sources_of(loaded, {"gh": mine}) == {
        "github": (Source("env", "GH_TOKEN"), Source("keyring", "github")),
        "db": (Source("file", str(tmp_path.resolve() / "elsewhere")), Source("keyring", "db")),
        "plain": (Source("keyring", "plain"),),
        "other": (Source("keyring", "staging"),),
        "work": (mine,),
        "gh": (Source("env", "GH"), mine),
    }


def test_who_gets_what(loaded: Loaded) -> None:
    assert used_secrets(loaded) == {"github": ("api.github.com", "github.com"), "db": ("db.example.com",)}


def test_no_command_comes_from_a_file(tmp_path: Path) -> None:
    """Nothing that a file from a repository says is run on this host."""
    path = tmp_path / "Sandboxfile.yaml"
    path.write_text('version: "1"\nsecrets: {github: {command: [touch, /tmp/x]}}\n')
    with pytest.raises(SandboxfileError, match="unknown key"):
        load(path, Inputs(environment={}))


def test_the_users_own_places(tmp_path: Path) -> None:
    path = tmp_path / "secrets.yaml"
    assert load_settings(path) == {}
    path.write_text(
        "github: {command: [gh, auth, token]}\n"
        "anthropic: {command: op read 'op://Private/My Key', every: 60}\n"
        "openai: {env: KEY}\n"
        f"corp: {{file: {tmp_path}/key}}\n"
    )
    assert load_settings(path) == {
        "github": Source("command", "gh", ("gh", "auth", "token"), 300.0),
        "anthropic": Source("command", "op", ("op", "read", "op://Private/My Key"), 60.0),
        "openai": Source("env", "KEY"),
        "corp": Source("file", str(tmp_path.resolve() / "key")),
    }


def test_the_example_of_the_page_is_one(tmp_path: Path) -> None:
    page = (Path(__file__).parents[3] / "docs" / "secrets.md").read_text()
    (tmp_path / "secrets.yaml").write_text(page.partition("```text\n")[2].partition("```")[0])
    assert set(load_settings(tmp_path / "secrets.yaml")) == {"github", "anthropic", "openai", "corp"}


@pytest.mark.parametrize("text", ["", "# nothing yet\n", "{}\n"])
def test_an_empty_configuration_says_nothing(tmp_path: Path, text: str) -> None:
    (tmp_path / "secrets.yaml").write_text(text)
    assert load_settings(tmp_path / "secrets.yaml") == {}


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_what_others_can_write_is_not_run(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "secrets.yaml"
    path.write_text("github: {command: [true]}\n")
    path.chmod(mode)
    with pytest.raises(EngineError, match="can be written by others"):
        load_settings(path)
