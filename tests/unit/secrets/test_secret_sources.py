"""Reading a secret where the user has it, and what is said where it is not."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import sys
import traceback
from pathlib import Path

import pytest

from engine.decoding import decode
from engine.secrets import sources as sources_module
from engine.secrets.errors import SecretError
from engine.secrets.redaction import redact_held
from engine.secrets.sources import (
    MAX_BYTES,
    CommandUnanswered,
    Source,
    check_value,
    command_source,
    needed_environment,
    read_first,
    read_source,
    real_path,
)
from engine.secrets.store import Store, open_store

VALUE = "sk-test-0123456789"


@pytest.fixture
def store() -> Store:
    return open_store()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path.resolve() / "token"
    path.write_text(f"{VALUE}\n")
    path.chmod(0o600)
    return path


def command(script: str) -> Source:
    return command_source([sys.executable, "-c", script])


def refusal(source: Source, store: Store, **environment: str) -> SecretError:
    with pytest.raises(SecretError) as caught:
        read_source(source, environment, store)
    shown = "".join(traceback.format_exception(caught.value))
    assert VALUE not in shown + str(caught.value.details) + str(caught.value.hint)
    return caught.value


def test_a_variable(store: Store) -> None:
    assert read_source(Source("env", "TOKEN"), {"TOKEN": VALUE}, store) == VALUE
    assert refusal(Source("env", "TOKEN"), store).brief == "variable TOKEN is not set"
    assert refusal(Source("env", "TOKEN"), store, TOKEN="").brief == "the value of variable TOKEN is empty"


def test_a_file(store: Store, file: Path) -> None:
    warnings: list[str] = []
    assert read_source(Source("file", str(file)), {}, store, warnings.append) == VALUE
    assert warnings == []
    file.chmod(0o644)
    assert read_source(Source("file", str(file)), {}, store, warnings.append) == VALUE
    assert warnings == [f"{file} can be read by others (mode 0644): chmod 600 {file}"]


@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_one_line_end_is_cut(store: Store, file: Path, end: str) -> None:
    file.write_bytes(VALUE.encode() + end.encode())
    assert read_source(Source("file", str(file)), {}, store) == VALUE


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "is empty"),
        (b"\n", "is empty"),
        (b"one-line-\nanother", "has more than one line"),
        (b"one-line-1\n\n", "has more than one line"),
        (b"with\rreturns-1", "has more than one line"),
        (b"with\ttabulators", "has characters that no header may have"),
        (b"with\0nothing-1", "has characters that no header may have"),
        ("schlüssel-1".encode(), "has characters that no header may have"),
        (b"\xff\xfe-12345678", "is not text"),
        (b" sk-with-a-space", "begins or ends with a space"),
        (b"tiny-1", "is shorter than 8 characters"),
        (b"x" * (MAX_BYTES + 1), "is longer than 16 KiB"),
        (b"x" * (64 * MAX_BYTES), "is longer than 16 KiB"),
    ],
)
def test_what_no_header_can_carry_is_refused_unseen(store: Store, file: Path, content: bytes, problem: str) -> None:
    file.write_bytes(content)
    error = refusal(Source("file", str(file)), store)
    assert error.brief.startswith(f"the value of file {file} {problem}")
    for part in content.decode(errors="replace").split():
        assert part not in "".join(traceback.format_exception(error))


def test_a_file_of_the_longest_length(store: Store, file: Path) -> None:
    file.write_text("x" * MAX_BYTES + "\r\n")
    assert len(read_source(Source("file", str(file)), {}, store)) == MAX_BYTES


def test_a_file_that_is_none(store: Store, file: Path, tmp_path: Path) -> None:
    assert refusal(Source("file", str(tmp_path / "no")), store).brief.endswith(
        "cannot be read: No such file or directory"
    )
    os.mkfifo(tmp_path / "pipe")
    assert refusal(Source("file", str(tmp_path.resolve() / "pipe")), store).brief.endswith("is not a regular file")
    assert refusal(Source("file", str(tmp_path.resolve())), store).brief.endswith("is not a regular file")
    assert refusal(Source("file", "/dev/zero"), store).brief.endswith("is not a regular file")


def test_no_descriptor_is_left_behind(store: Store, file: Path, tmp_path: Path) -> None:
    before = sorted(map(str, Path("/proc/self/fd").iterdir()))
    for path in (file, tmp_path.resolve(), Path("/dev/null"), tmp_path / "no"):
        with contextlib.suppress(SecretError):
            read_source(Source("file", str(path)), {}, store)
    assert sorted(map(str, Path("/proc/self/fd").iterdir())) == before


def test_no_link_is_followed_when_it_is_read(store: Store, file: Path, tmp_path: Path) -> None:
    """A guest that can write where the file lies puts a link to another file of the user's in its place."""
    link, directory = tmp_path.resolve() / "link", tmp_path.resolve() / "directory"
    link.symlink_to(file)
    directory.symlink_to(tmp_path)
    assert real_path(link) == str(file)  # when it is resolved, it is
    assert "is a link now" in refusal(Source("file", str(link)), store).brief
    assert "is a link now" in refusal(Source("file", str(directory / "token")), store).brief


def test_a_command(store: Store) -> None:
    assert read_source(command(f"print({VALUE!r})"), dict(os.environ), store) == VALUE
    error = refusal(
        command(f"import sys; print({VALUE!r}); print('not logged in', file=sys.stderr); sys.exit(3)"), store
    )
    assert "failed with code 3" in error.brief and error.details == "not logged in"
    assert "cannot be started" in refusal(command_source(["/nowhere/op"]), store).brief


def test_a_command_gets_the_users_environment_and_no_input(store: Store) -> None:
    source = command("import os, sys; print(os.environ['TOKEN'] + sys.stdin.read())")
    assert read_source(source, {**os.environ, "TOKEN": VALUE}, store) == VALUE


def test_a_command_that_does_not_answer(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources_module, "COMMAND_S", 0.2)
    with pytest.raises(CommandUnanswered, match="did not answer"):
        read_source(command("import threading; threading.Event().wait()"), dict(os.environ), store)


def test_a_command_that_quotes_a_value_in_its_complaint(store: Store) -> None:
    read_source(Source("env", "T"), {"T": VALUE}, store)
    error = refusal(command(f"import sys; sys.exit('bad token {VALUE}')"), store)
    assert error.details == "bad token •••"


def test_what_is_kept(store: Store) -> None:
    store.set("github", VALUE)
    assert read_source(Source("keyring", "github"), {}, store) == VALUE
    assert refusal(Source("keyring", "other"), store).brief == "keyring entry other: you keep nothing of that name"


def test_the_first_that_has_one_is_taken(store: Store, file: Path) -> None:
    store.set("github", "kept-value-1")
    places = (Source("env", "TOKEN"), Source("file", str(file)), Source("keyring", "github"))
    assert read_first("github", places, {"TOKEN": "of-the-variable"}, store) == ("of-the-variable", places[0])
    assert read_first("github", places, {}, store) == (VALUE, places[1])
    file.unlink()
    assert read_first("github", places, {}, store) == ("kept-value-1", places[2])


def test_what_was_tried_is_told_with_the_one_command_that_helps(store: Store) -> None:
    places = (Source("env", "GH_TOKEN"), Source("keyring", "github"))
    with pytest.raises(SecretError) as caught:
        read_first("github", places, {}, store)
    error = caught.value
    assert error.brief == "the secret github has no value" and error.exit_code == 1
    assert error.details == "variable GH_TOKEN is not set\nkeyring entry github: you keep nothing of that name"
    assert error.hint == "`sandbox secret set github` gives it one"
    with pytest.raises(SecretError) as caught:
        read_first("github", places[:1], {}, store)
    assert caught.value.hint == "`export GH_TOKEN=...` gives it one"


def test_no_more_of_the_environment_goes_on_than_is_needed() -> None:
    environment = {"A": "1", "B": "2", "DBUS_SESSION_BUS_ADDRESS": "unix:x"}
    assert needed_environment([Source("env", "A"), Source("env", "C")], environment) == {"A": "1"}
    assert needed_environment([Source("keyring", "x")], environment) == {"DBUS_SESSION_BUS_ADDRESS": "unix:x"}
    assert needed_environment([command_source(["op"])], environment) == environment
    assert needed_environment([Source("file", "/x")], environment) == {}


def test_a_source_travels_as_json() -> None:
    source = command_source(["op", "read", "op://Private/key with space"], 60)
    assert decode(Source, json.loads(json.dumps(dataclasses.asdict(source)))) == source
    assert source.label == "command op"


def test_a_refused_value_is_known_to_the_redaction() -> None:
    with pytest.raises(SecretError):
        check_value("with\ttab-987654321", "standard input")
    assert "987654321" not in redact_held("with\ttab-987654321")


def test_what_is_too_short_makes_no_text_unreadable(store: Store) -> None:
    error = refusal(Source("env", "T"), store, T="e")
    assert (
        redact_held(error.brief)
        == "the value of variable T is shorter than 8 characters: it could not be kept out of texts"
    )
