"""What `sandbox secret set` keeps: in the keyring, or in a file that only the user can read."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from fake_keyring import Keyring

from engine.secrets.errors import SecretError
from engine.secrets.store import Entry, Store, check_name, keyring_title, open_store, os_keyring

ROOT = Path(__file__).parents[3]
VALUE = "sk-test-0123456789"


@pytest.fixture
def store() -> Store:
    return open_store()


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the entries of a keyring are that this process has."""
    path = tmp_path / "keyring.json"
    monkeypatch.setenv("FAKE_KEYRING", str(path))
    monkeypatch.setattr("keyring.core._keyring_backend", Keyring())
    return path


def test_without_a_keyring_it_is_a_file_of_the_users_own(store: Store) -> None:
    assert os_keyring() is None
    assert store.set("github", VALUE) == "file"
    assert store.path.stat().st_mode & 0o777 == 0o600
    assert store.path.parent.stat().st_mode & 0o777 == 0o700
    assert store.get("github") == VALUE and store.get("other") is None
    assert json.loads(store.path.read_text())["secrets"]["github"]["value"] == VALUE


def test_with_a_keyring_the_file_has_names_only(store: Store, kept: Path) -> None:
    assert store.set("github", VALUE) == "keyring"
    assert json.loads(kept.read_text()) == {"sandbox/github": VALUE}
    assert VALUE not in store.path.read_text() and '"github"' in store.path.read_text()
    assert store.get("github") == VALUE
    assert store.remove("github") and json.loads(kept.read_text()) == {}
    assert store.get("github") is None and not store.remove("github")


def test_a_new_value_goes_to_the_keyring_and_out_of_the_file(store: Store, request: pytest.FixtureRequest) -> None:
    store.set("github", VALUE)
    request.getfixturevalue("kept")
    store.set("github", "another-value-1")
    assert VALUE not in store.path.read_text() and store.get("github") == "another-value-1"


def test_a_keyring_that_is_locked_is_told_of_and_nothing_changes(store: Store, kept: Path) -> None:
    store.set("github", VALUE)
    before = store.path.read_text()
    kept.with_suffix(".locked").touch()
    for call in (lambda: store.set("github", "another-value-1"), lambda: store.get("github")):
        with pytest.raises(SecretError, match="RuntimeError") as caught:
            call()
        assert "PYTHON_KEYRING_BACKEND" in str(caught.value.hint)
    assert store.path.read_text() == before
    # Removed is removed, whatever the keyring says.
    with pytest.raises(SecretError, match="github is forgotten, but the keyring did not remove its value"):
        store.remove("github")
    assert store.find("github") is None


def test_a_keyring_that_cannot_be_reached_any_more(store: Store) -> None:
    store.path.write_text('{"version": 1, "secrets": {"github": {"place": "keyring", "set_at": "2026"}}}')
    with pytest.raises(SecretError, match="cannot be reached from here") as caught:
        store.get("github")
    assert "`sandbox secret set github`" in str(caught.value.hint)
    with pytest.raises(SecretError, match="its value is still in the keyring"):
        store.remove("github")
    assert store.find("github") is None


@pytest.mark.parametrize("backend", ["null.Keyring", "fail.Keyring", "chainer.ChainerBackend", "no.Such"])
def test_what_counts_as_no_keyring(backend: str) -> None:
    code = "from engine.secrets.store import os_keyring; print(os_keyring())"
    env = {**os.environ, "PYTHON_KEYRING_BACKEND": f"keyring.backends.{backend}", "PYTHONPATH": str(ROOT)}
    env.pop("DBUS_SESSION_BUS_ADDRESS", None)
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert done.stdout == "None\n"


def test_the_library_is_loaded_when_a_keyring_is_asked_only() -> None:
    code = (
        "import sys; from engine.secrets import redaction, rules, sources, store, vault\n"
        "store.open_store().entries()\n"
        "heavy = ('keyring', 'cryptography', 'filelock', 'sandboxfile', 'pydantic', 'platformdirs')\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        '{"version": 2, "secrets": {}}',
        '{"version": 1}',
        '{"version": 1, "secrets": {"a": {"place": "x"}}}',
        "{",
    ],
)
def test_a_damaged_file_is_neither_used_nor_overwritten(store: Store, text: str) -> None:
    store.path.write_text(text)
    for call in (lambda: store.get("a"), lambda: store.set("a", VALUE), lambda: store.remove("a")):
        with pytest.raises(SecretError, match="is damaged, or of another version"):
            call()
    assert store.path.read_text() == text


def test_a_damaged_file_is_not_quoted(store: Store) -> None:
    store.path.write_text(f'{{"version": 1, "secrets": {{"a": {{"value": "{VALUE}", "place": 1')
    with pytest.raises(SecretError) as caught:
        store.entries()
    assert VALUE not in f"{caught.value} {caught.value.details} {caught.value.__cause__} {caught.value.hint}"


def test_many_at_once_lose_none(store: Store) -> None:
    threads = [threading.Thread(target=store.set, args=(f"name-{n}", f"{VALUE}-{n}")) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(store.entries()) == [f"name-{n}" for n in range(8)]
    assert [path.name for path in store.path.parent.iterdir() if path.name.startswith(".secrets")] == []


@pytest.mark.parametrize("name", ["github", "a", "staging-token", "me@work.example", "x" * 64])
def test_names(name: str) -> None:
    assert check_name(name) == name


@pytest.mark.parametrize(
    "name",
    ["", "-x", "../x", "a b", "x" * 65, "a=b", "sk-ant-api03-AbCdEf", "0123456789abcdef0123456789abcdef", "ghp_AbC"],
)
def test_a_value_in_the_place_of_a_name_is_not_repeated(name: str) -> None:
    with pytest.raises(SecretError) as caught:
        check_name(name)
    assert caught.value.exit_code == 2
    assert len(name) < 6 or name not in f"{caught.value.brief} {caught.value.hint}"


def test_neither_shows_a_value() -> None:
    assert VALUE not in repr(Entry("file", "2026", VALUE))


def test_a_keyring_has_a_name(kept: Path) -> None:
    assert keyring_title(os_keyring()) == "fake"
