"""The values of a running sandbox: read at the start, again while it runs, and shown to nobody."""

from __future__ import annotations

import copy
import logging
import os
import pickle
import subprocess
import sys
import threading
import traceback
from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_keyring import Keyring

from engine.secrets import vault as vault_module
from engine.secrets.errors import SecretError
from engine.secrets.redaction import MOST_FORMER
from engine.secrets.sources import Source, command_source
from engine.secrets.store import Store, open_store
from engine.secrets.vault import KEYRING_S, LOOK_S, Vault

ROOT = Path(__file__).parents[3]
OLD, NEW = "old-value-0123456789", "new-value-0123456789"
WAIT_S = 30.0


class Clock:
    """Time that passes when a test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(autouse=True)
def still_debuggable(monkeypatch: pytest.MonkeyPatch) -> None:
    """This process is the tests', and keeps its core dumps."""
    monkeypatch.setattr(vault_module, "forbid_core_dumps", lambda: None)


@pytest.fixture
def store() -> Store:
    return open_store()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def heard() -> list[str]:
    return []


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    path = tmp_path / "keyring.json"
    monkeypatch.setenv("FAKE_KEYRING", str(path))
    monkeypatch.setattr("keyring.core._keyring_backend", Keyring())
    yield path


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path.resolve() / "token"
    path.write_text(OLD)
    path.chmod(0o600)
    return path


def test_a_variable_stays_what_it_was(store: Store, clock: Clock) -> None:
    environment = {"TOKEN": OLD}
    vault = Vault({"github": [Source("env", "TOKEN")]}, environment, store, clock=clock)
    environment["TOKEN"] = NEW
    clock.now += 1000
    assert vault.value("github") == OLD and vault.value("other") is None and vault.names() == ("github",)


def test_one_without_a_value_ends_it_at_the_start(store: Store) -> None:
    with pytest.raises(SecretError) as caught:
        Vault({"a": [Source("env", "A")], "b": [Source("env", "B"), Source("keyring", "b")]}, {"A": OLD}, store)
    assert caught.value.brief == "the secret b has no value"
    assert caught.value.hint == "`sandbox secret set b` gives it one"
    assert OLD not in "".join(traceback.format_exception(caught.value))


def test_one_that_may_be_missing_gets_its_value_where_the_user_keeps_it(
    store: Store, clock: Clock, kept: Path, heard: list[str]
) -> None:
    places = [Source("env", "TOKEN"), Source("keyring", "anthropic")]
    vault = Vault({"anthropic": places}, {}, store, heard.append, clock, missing=["anthropic"])
    assert vault.value("anthropic") is None and heard == []
    store.set("anthropic", NEW)
    clock.now += LOOK_S
    vault.value("anthropic")
    vault.settle(WAIT_S)
    assert vault.value("anthropic") == NEW
    assert heard == ["the secret anthropic has a value again"]


def test_a_file_that_changes(store: Store, clock: Clock, file: Path, heard: list[str]) -> None:
    vault = Vault({"github": [Source("file", str(file))]}, {}, store, heard.append, clock)
    assert vault.value("github") == OLD
    file.write_text(f"{NEW}-and-longer")
    assert vault.value("github") == f"{NEW}-and-longer"  # at once, no time has passed
    file.unlink()
    assert vault.value("github") is None
    file.write_text(NEW)
    assert vault.value("github") == NEW
    assert [line.partition(":")[0] for line in heard if "others" not in line] == [
        "the secret github has a new value",
        "the secret github has no value any more",
        "the secret github has a value again",
    ]
    assert not any(OLD in line or NEW in line for line in heard)


def test_of_a_file_that_changes_again_and_again_the_last_values_are_taken_out(
    store: Store, clock: Clock, file: Path
) -> None:
    vault = Vault({"key": [Source("file", str(file))]}, {}, store, clock=clock)
    values = [f"value-number-{number:04}" for number in range(MOST_FORMER + 5)]
    for value in values:
        file.write_text(value)
        clock.now += 2 * LOOK_S
        assert vault.value("key") == value
    assert vault.redact(values[-1] + values[-2]) == "••••••" and vault.redact(values[0]) == values[0]


def test_a_file_whose_time_and_size_stay(store: Store, clock: Clock, file: Path) -> None:
    vault = Vault({"github": [Source("file", str(file))]}, {}, store, clock=clock)
    seen = file.stat()
    assert vault.value("github") == OLD
    file.write_text(NEW)
    os.utime(file, ns=(seen.st_atime_ns, seen.st_mtime_ns))
    assert vault.value("github") == OLD
    clock.now += LOOK_S
    assert vault.value("github") == NEW


def test_a_file_that_becomes_a_link_is_not_followed(store: Store, clock: Clock, file: Path, tmp_path: Path) -> None:
    vault = Vault({"github": [Source("file", str(file))]}, {}, store, clock=clock)
    other = tmp_path / "id_rsa"
    other.write_text("a-private-key-of-the-user")
    file.unlink()
    file.symlink_to(other)
    clock.now += LOOK_S
    assert vault.value("github") is None


def test_a_source_that_had_none_at_the_start_takes_nothing_over(store: Store, clock: Clock, file: Path) -> None:
    places = [Source("file", str(file)), Source("keyring", "github")]
    vault = Vault({"github": places}, {}, store, clock=clock)
    store.set("github", NEW)
    file.unlink()
    clock.now += LOOK_S
    assert vault.value("github") is None


def test_what_is_kept_changes_and_goes(store: Store, clock: Clock, heard: list[str]) -> None:
    store.set("github", OLD)
    vault = Vault({"github": [Source("keyring", "github")]}, {}, store, heard.append, clock)
    assert vault.value("github") == OLD
    store.set("github", NEW)
    assert vault.value("github") == NEW  # at once, no time has passed
    store.remove("github")
    assert vault.value("github") is None
    assert heard[-1] == "the secret github has no value any more: keyring entry github was removed"


def test_what_is_in_the_keyring_changes_and_goes(store: Store, clock: Clock, kept: Path) -> None:
    store.set("github", OLD)
    vault = Vault({"github": [Source("keyring", "github")]}, {}, store, clock=clock)
    assert vault.value("github") == OLD
    store.set("github", NEW)
    clock.now += LOOK_S
    vault.value("github")
    vault.settle(WAIT_S)
    assert vault.value("github") == NEW
    # Somebody changes it in the keyring itself.
    kept.write_text(f'{{"sandbox/github": "{OLD}"}}')
    clock.now += KEYRING_S
    vault.value("github")
    vault.settle(WAIT_S)
    assert vault.value("github") == OLD
    store.remove("github")
    clock.now += LOOK_S
    assert vault.value("github") is None  # at once, without a question to the keyring


def test_an_answer_that_comes_after_the_removal_counts_for_nothing(
    store: Store, clock: Clock, kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.set("github", OLD)
    vault = Vault({"github": [Source("keyring", "github")]}, {}, store, clock=clock)
    asked, removed = threading.Event(), threading.Event()
    read = Keyring.get_password

    def slow(self: Keyring, service: str, username: str) -> str | None:
        value = read(self, service, username)
        asked.set()
        assert removed.wait(WAIT_S)
        return value

    monkeypatch.setattr(Keyring, "get_password", slow)
    clock.now += KEYRING_S
    assert vault.value("github") == OLD  # nobody waits for the keyring
    assert asked.wait(WAIT_S)
    store.remove("github")
    clock.now += LOOK_S
    assert vault.value("github") is None
    removed.set()
    vault.settle(WAIT_S)
    assert vault.value("github") is None


def test_a_command_is_asked_again_aside(store: Store, clock: Clock, file: Path) -> None:
    code = (
        f"import pathlib, sys; p = pathlib.Path({str(file)!r}); sys.exit(3) if not p.exists() else print(p.read_text())"
    )
    vault = Vault({"github": [command_source([sys.executable, "-c", code], 60)]}, dict(os.environ), store, clock=clock)
    file.write_text(NEW)
    clock.now += 59
    assert vault.value("github") == OLD
    clock.now += 1
    vault.value("github")
    vault.settle(WAIT_S)
    assert vault.value("github") == NEW
    file.unlink()  # logged out
    clock.now += 60
    vault.value("github")
    vault.settle(WAIT_S)
    assert vault.value("github") is None


def test_it_shows_nothing(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    store.set("kept", NEW)
    vault = Vault({"github": [Source("env", "TOKEN")], "kept": [Source("keyring", "kept")]}, {"TOKEN": OLD}, store)
    assert repr(vault) == "Vault(github, kept)"
    caplog.set_level(logging.DEBUG)
    logging.getLogger("x").debug("%s %r", vault, vars(vault))
    shown = f"{vault} {vars(vault)} {caplog.text}"
    assert OLD not in shown and NEW not in shown
    for take in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="stays in its process"):
            take(vault)
    assert vault.redact(f"authorization: Bearer {OLD}") == "authorization: Bearer •••"


PROTECTED = """
import ctypes, os, resource, sys
from engine.secrets.core_dumps import forbid_core_dumps
if os.getuid() == 0:
    os.setgroups([]); os.setgid(65534); os.setuid(65534)
forbid_core_dumps()
print(resource.getrlimit(resource.RLIMIT_CORE), ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))
# What the process itself needs still works.
fd = os.memfd_create("x"); os.write(fd, b"own")
print(open(f"/proc/self/fd/{fd}").read(), len(os.listdir("/proc/self/fd")) > 2)
child = os.fork()
if child == 0:
    try:
        open(f"/proc/{os.getppid()}/environ").read(); print("read")
    except PermissionError:
        print("closed")
    sys.stdout.flush(); os._exit(0)
os.waitpid(child, 0)
sys.stdout.flush()
os.abort()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="what Linux offers")
def test_no_core_dump_and_no_look_inside(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    env = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, "-u", "-c", PROTECTED], env=env, capture_output=True, text=True, cwd=tmp_path
    )
    assert done.stdout.splitlines() == ["(1, 1) 0", "own True", "closed"], done.stderr
    assert done.returncode < 0 and [path for path in tmp_path.iterdir() if "core" in path.name] == []


def test_a_vault_turns_core_dumps_off(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[bool] = []
    monkeypatch.setattr(vault_module, "forbid_core_dumps", lambda: called.append(True))
    Vault({}, {}, store)
    assert called == [True]


def renew(vault: Vault, name: str, value: str) -> None:
    vault.renew({name: value})
    vault.keep([name])


@pytest.mark.parametrize("place", ["file", "keyring"])
def test_a_renewed_value_counts_at_once_and_is_kept_where_the_old_one_was(
    store: Store, clock: Clock, heard: list[str], request: pytest.FixtureRequest, place: str
) -> None:
    if place == "keyring":
        request.getfixturevalue("kept")
    assert store.set("github", OLD) == place
    vault = Vault({"github": [Source("keyring", "github")]}, {}, store, heard.append, clock)
    vault.renew({"github": NEW})
    assert vault.value("github") == NEW
    clock.now += KEYRING_S  # what is kept is still the old one, and is not taken for a change
    vault.value("github")
    vault.settle(WAIT_S)
    assert vault.value("github") == NEW
    vault.keep(["github"])
    assert store.get("github") == NEW and store.entries()["github"].place == place
    clock.now += KEYRING_S
    vault.value("github")
    vault.settle(WAIT_S)
    assert vault.value("github") == NEW
    assert heard == ["the secret github was renewed"]
    store.set("github", "another-value-0123456789")
    clock.now += LOOK_S
    vault.value("github")
    vault.settle(WAIT_S)
    assert vault.value("github") == "another-value-0123456789"


def test_a_renewed_value_whose_source_is_not_ours_is_in_memory_and_says_so(
    store: Store, clock: Clock, file: Path, heard: list[str]
) -> None:
    sources = {"a": [Source("file", str(file))], "b": [Source("env", "B")]}
    vault = Vault(sources, {"B": OLD}, store, heard.append, clock)
    for name, label in (("a", f"file {file}"), ("b", "variable B")):
        renew(vault, name, NEW)
        assert f"the renewed secret {name} is in memory only, and lost when this sandbox stops" in heard[-1]
        assert f"{label} is not ours to change" in heard[-1]
    assert file.read_text() == OLD
    clock.now += 1000
    assert vault.value("a") == vault.value("b") == NEW  # the file still has the old one
    file.write_text("another-value-0123456789")
    clock.now += LOOK_S
    assert vault.value("a") == "another-value-0123456789"
    assert not any(OLD in line or NEW in line for line in heard)


def test_a_secret_that_is_removed_while_it_is_renewed_stays_removed(store: Store, clock: Clock) -> None:
    store.set("github", OLD)
    vault = Vault({"github": [Source("keyring", "github")]}, {}, store, clock=clock)
    store.remove("github")
    renew(vault, "github", NEW)
    clock.now += LOOK_S
    assert vault.value("github") is None and store.entries() == {}
    store.set("github", OLD)
    vault = Vault({"github": [Source("keyring", "github")]}, {}, store, clock=clock)
    vault.renew({"github": NEW})
    store.remove("github")
    vault.keep(["github"])
    clock.now += LOOK_S
    assert vault.value("github") is None and store.entries() == {}


def test_a_value_that_the_user_sets_while_it_is_renewed_wins(store: Store, clock: Clock, heard: list[str]) -> None:
    store.set("github", OLD)
    vault = Vault({"github": [Source("keyring", "github")]}, {}, store, heard.append, clock)
    vault.renew({"github": NEW})
    store.set("github", "another-value-0123456789")
    vault.keep(["github"])
    assert store.get("github") == "another-value-0123456789" and "was changed meanwhile" in heard[-1]
    clock.now += LOOK_S
    assert vault.value("github") == "another-value-0123456789"


def test_what_cannot_be_sent_is_no_renewed_value(store: Store) -> None:
    vault = Vault({"github": [Source("env", "A")]}, {"A": OLD}, store)
    with pytest.raises(SecretError):
        vault.renew({"github": f"{NEW}\r\nX: y"})
    assert vault.value("github") == OLD


def test_what_a_command_has_just_said_is_not_asked_for_again(store: Store, clock: Clock, tmp_path: Path) -> None:
    asked = tmp_path / "asked"
    code = f"open({str(asked)!r}, 'a').write('x'); print({NEW!r})"
    sources = {"github": [Source("env", "NOT_SET"), command_source([sys.executable, "-c", code], 60)]}
    vault = Vault(sources, dict(os.environ), store, clock=clock, answers={"github": OLD})
    assert vault.value("github") == OLD and not asked.exists()
    clock.now += 60
    vault.value("github")
    vault.settle(WAIT_S)
    assert vault.value("github") == NEW and asked.read_text() == "x"


def test_a_store_that_is_damaged_while_a_login_is_renewed_loses_nothing(
    store: Store, clock: Clock, heard: list[str]
) -> None:
    store.set("github", OLD)
    vault = Vault({"github": [Source("keyring", "github")]}, {}, store, heard.append, clock)
    good = store.path.read_bytes()
    store.path.write_text("{")
    renew(vault, "github", NEW)
    assert "is in memory only" in heard[-1] and "is damaged" in heard[-1]
    store.path.write_bytes(good)
    clock.now += LOOK_S
    assert vault.value("github") == NEW  # what is kept is the old one
