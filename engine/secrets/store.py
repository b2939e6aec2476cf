"""What `sandbox secret set` keeps: in the system's keyring, or where there is none in a file of the user's.

The file lists the names in either case, since a keyring cannot be asked for them: a value in it is one that no keyring
took. It lies in the state directory, which nobody else can enter, with mode 0600.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from engine.decoding import decode
from engine.files import make_private, read_json, write_json
from engine.secrets.errors import SecretError

VERSION = 1
SERVICE = "sandbox"  # under which the keyring has our entries: no file can name those of other programs
LOCK_S = 10.0
# Without these the keyring of the session cannot be found.
SESSION = ("DBUS_SESSION_BUS_ADDRESS", "XDG_RUNTIME_DIR", "PYTHON_KEYRING_BACKEND", "DISPLAY", "WAYLAND_DISPLAY")

_NAME = re.compile(r"[a-z0-9][a-z0-9._@-]{0,63}")

Place = Literal["keyring", "file"]
Stamp = tuple[int, int, int, int]


@dataclass(frozen=True)
class Entry:
    """One secret that is kept. `set_at` is ISO 8601 in UTC and changes with each new value."""

    place: Place
    set_at: str
    value: str | None = None

    def __repr__(self) -> str:
        return f"Entry({self.place}, {self.set_at})"


def check_name(name: str) -> str:
    """The name itself. Raises SecretError (exit code 2), which does not repeat it: it may be a value."""
    from engine.secrets.tokens import tokens_in  # it loads the file's language, which no supervisor needs

    if not _NAME.fullmatch(name) or tokens_in(f"/{name}"):
        raise SecretError(
            "that is no name of a secret",
            hint="lower-case letters, digits, '-', '_', '.' and '@', at most 64; its value is asked for",
            exit_code=2,
        )
    return name


class Store:
    """The entries; `path` and `lock` are the layout's `secrets` and `secrets_lock`."""

    def __init__(self, path: Path, lock: Path) -> None:
        self.path = path
        self._lock = lock

    def __repr__(self) -> str:
        return f"Store({str(self.path)!r})"

    def entries(self) -> Mapping[str, Entry]:
        """By name. Values in it are those of the file alone. Raises SecretError for a file that cannot be read."""
        try:
            value = read_json(self.path)
            if not isinstance(value, dict) or value.get("version") != VERSION:
                raise ValueError
            return decode(_Content, value).secrets
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise SecretError(f"{self.path} cannot be read: {error.strerror}") from None
        except (ValueError, RecursionError):  # what is wrong with it may quote it
            hint = f"move it away: mv {self.path} {self.path}.damaged, and set the secrets again"
            raise SecretError(f"{self.path} is damaged, or of another version", hint=hint) from None

    def stamp(self) -> Stamp | None:
        """Another one when something was kept or removed; None where nothing ever was. Reads no file."""
        return stamp_of(self.path)

    def find(self, name: str) -> Entry | None:
        return self.entries().get(name)

    def get(self, name: str) -> str | None:
        """Its value; None for what is not kept. May wait for the user to unlock the keyring. Raises SecretError."""
        entry = self.find(name)
        if entry is None or entry.place == "file":
            return entry.value if entry else None
        backend = os_keyring()
        if backend is None:
            hint = f"`sandbox secret set {name}` here keeps it in a file"
            raise SecretError(f"{name} is in the system's keyring, which cannot be reached from here", hint=hint)
        with _keyring_errors(f"the keyring did not give {name}"):
            found = backend.get_password(SERVICE, name)
        return found if found is None or isinstance(found, str) else None

    def set(self, name: str, value: str) -> Place:
        """Keep a value, in the place of an earlier one; returns where. Raises SecretError."""
        check_name(name)
        backend = os_keyring()
        entry = Entry("file", _now(), value) if backend is None else Entry("keyring", _now())
        with self._held():
            before = dict(self.entries())
            if backend is not None:
                with _keyring_errors(f"the keyring did not take {name}"):
                    backend.set_password(SERVICE, name, value)
            self._write({**before, name: entry})
        return entry.place

    def renew(self, name: str, value: str, since: Entry) -> bool:
        """Put a value in the place of that of `since`, and say whether that was still there. Raises SecretError."""
        backend = os_keyring() if since.place == "keyring" else None
        if since.place == "keyring" and backend is None:
            raise SecretError(f"{name} is in the system's keyring, which cannot be reached from here")
        with self._held():
            before = dict(self.entries())
            if before.get(name) != since:
                return False
            if backend is not None:
                with _keyring_errors(f"the keyring did not take {name}"):
                    backend.set_password(SERVICE, name, value)
            self._write({**before, name: Entry(since.place, _now(), None if backend is not None else value)})
        return True

    def remove(self, name: str) -> bool:
        """Forget a secret, and its value wherever it is; whether there was one. Raises SecretError."""
        with self._held():
            entries = dict(self.entries())
            entry = entries.pop(name, None)
            if entry is None:
                return False
            # First the name: who runs with it loses it at once, also when the keyring cannot be reached.
            self._write(entries)
        if entry.place == "keyring":
            self._remove_from_keyring(name)
        return True

    def _remove_from_keyring(self, name: str) -> None:
        backend = os_keyring()
        if backend is None:
            raise SecretError(
                f"{name} is forgotten, but its value is still in the keyring, which cannot be reached from here",
                hint=f"remove the entry {name} of the service {SERVICE!r} there",
            )
        import keyring.errors

        with _keyring_errors(f"{name} is forgotten, but the keyring did not remove its value"):
            with contextlib.suppress(keyring.errors.PasswordDeleteError):  # it has none
                backend.delete_password(SERVICE, name)

    @contextlib.contextmanager
    def _held(self) -> Iterator[None]:
        from filelock import FileLock, Timeout

        try:
            make_private(self._lock.parent)
            with FileLock(self._lock, timeout=LOCK_S, mode=0o600):
                yield
        except Timeout:
            raise SecretError(f"another process changes {self.path}", hint="try again") from None

    def _write(self, entries: Mapping[str, Entry]) -> None:
        content = {"version": VERSION, "secrets": {name: _to_json(entry) for name, entry in entries.items()}}
        try:
            write_json(self.path, content)
        except OSError as error:
            raise SecretError(f"cannot write {self.path}: {error.strerror}") from None


@dataclass(frozen=True)
class _Content:
    secrets: Mapping[str, Entry]


def stamp_of(path: Path) -> Stamp | None:
    """Equal as long as nobody has written the file or put another in its place; None where there is none to see."""
    try:
        seen = path.lstat()
    except OSError:
        return None
    return seen.st_dev, seen.st_ino, seen.st_size, seen.st_mtime_ns


def os_keyring() -> Any:
    """The system's keyring, None where there is none that keeps anything safer than our own file."""
    try:
        import keyring

        backend = keyring.get_keyring()
    except Exception:  # plug-ins of anybody's; one that cannot be loaded is none
        return None
    # A chain asks several; an empty one asks nobody. What `keyrings.alt` adds are files that are no safer than ours.
    parts = list(getattr(backend, "backends", [backend]))
    modules = [type(part).__module__ for part in parts]
    if all(name in ("keyring.backends.fail", "keyring.backends.null") or "keyrings.alt" in name for name in modules):
        return None
    return backend


def keyring_title(backend: Any) -> str:
    """What people call it: `SecretService`, `macOS`."""
    return str(getattr(backend, "name", type(backend).__name__)).removesuffix(" Keyring")


@contextlib.contextmanager
def _keyring_errors(brief: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # each backend raises what its library does
        raise SecretError(
            f"{brief}: {type(error).__name__}",
            hint="unlock it, or keep it in a file: PYTHON_KEYRING_BACKEND=keyring.backends.null.Keyring",
        ) from None


def _to_json(entry: Entry) -> dict[str, Any]:
    return {key: value for key, value in asdict(entry).items() if value is not None}


def without_values(entries: Mapping[str, Entry]) -> dict[str, Entry]:
    """The same entries for whoever wants to know of them only."""
    return {name: replace(entry, value=None) for name, entry in entries.items()}


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds")


def open_store(environment: Mapping[str, str] | None = None) -> Store:
    """The user's. Raises EngineError where the state directory cannot be used."""
    from engine.state.layout import Layout

    layout = Layout.from_environment(os.environ if environment is None else environment)
    return Store(layout.secrets, layout.secrets_lock)
