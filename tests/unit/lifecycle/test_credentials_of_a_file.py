"""What `up` looks at before it builds anything: the credentials of a file, without their values."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from engine.lifecycle.credentials import Credentials, read_credentials
from engine.secrets.errors import SecretError
from engine.state.layout import Layout
from sandboxfile import load

VALUE = "sk-ant-api03-of-the-user-alone"
FILE = """
version: "1"
secrets: {anthropic: {env: MY_KEY}, unused: {env: NOT_SET}}
endpoints: [{host: api.anthropic.com, secret: anthropic}]
"""


@pytest.fixture
def layout() -> Layout:
    return Layout.from_environment(os.environ)


def read(directory: Path, layout: Layout, text: str = FILE) -> Credentials:
    (directory / "Sandboxfile.yaml").write_text(text)
    return read_credentials(load(directory / "Sandboxfile.yaml"), layout)


def test_the_guest_gets_placeholders_in_the_variables_that_programs_read(
    tmp_path: Path, layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_KEY", VALUE)
    credentials = read(tmp_path, layout)
    assert set(credentials.environment()) >= {"ANTHROPIC_API_KEY", "MY_KEY"}
    assert VALUE not in credentials.environment().values()
    assert list(credentials.places.sources) == ["anthropic"], "what no endpoint uses is not looked at"
    assert VALUE not in repr(credentials), "a traceback shows it"
    assert credentials.places.environment["MY_KEY"] == VALUE, "the supervisor cannot see the user's variables"


def test_a_missing_value_says_where_it_was_looked_for(
    tmp_path: Path, layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MY_KEY", raising=False)
    with pytest.raises(SecretError, match="the secret anthropic has no value") as caught:
        read(tmp_path, layout)
    assert "variable MY_KEY is not set" in str(caught.value.details)


def test_a_file_without_secrets_asks_nobody(tmp_path: Path, layout: Layout) -> None:
    assert read(tmp_path, layout, 'version: "1"\nendpoints: [a.example.com]\n') == Credentials()
