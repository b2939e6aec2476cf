"""Noting at Python's own doors what a program looks at: files, directories and variables.

`open`, `listdir` and `scandir` tell every listener of theirs (PEP 578). `stat` and its kin tell nobody, and a path that
is relative to a descriptor cannot be told from the event: these few functions of `os` are replaced for the time of a
Watch. What another program looks at is not seen: whoever asks one says what configures it (`asking`), or the looks are
not whole.
"""

from __future__ import annotations

import contextlib
import os
import shutil  # noqa: F401 - it looks at what `os` supports when it is loaded, and must see the functions themselves
import stat
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, MutableMapping
from typing import Any, Self

from engine.recall.looks import Depth, Looks, mark_of

SET_BY_US = frozenset({"PYDANTIC_DISABLE_PLUGINS"})  # variables that this program gives itself
_SUPPORTED: tuple[set[Any], ...] = (
    os.supports_dir_fd,
    os.supports_fd,
    os.supports_follow_symlinks,
    os.supports_effective_ids,
)
_HEARD = ("open", "os.listdir", "os.scandir", "subprocess.Popen")
_listener: Callable[[str, tuple[Any, ...]], None] | None = None
_installed = False
_watch: Watch | None = None


class Watch:
    """A context manager. `looks` is what was looked at within the block, in all threads, outside of `ours`.

    One at a time. `ours` are directories whose content is no input: programs, caches and what is written for oneself.
    """

    def __init__(self, ours: Iterable[str]) -> None:
        self.looks = Looks()
        self._ours = tuple(f"{os.path.normpath(each)}/" for each in ours)
        self._busy = threading.local()
        self._before: dict[str, Any] = {}
        self._environment: Any = None
        self._paused = 0

    def __enter__(self) -> Self:
        global _listener, _installed, _watch
        self._before = {name: getattr(os, name) for name in ("stat", "lstat", "open", "access", "readlink")}
        os.stat, os.lstat, os.open = self._stat, self._lstat, self._open
        os.access, os.readlink = self._access, self._readlink
        self._environment = os.environ
        os.environ = _Variables(os.environ, self.looks)  # type: ignore[assignment]  # noqa: B003 - it passes all on
        for functions in _SUPPORTED:  # who asks whether a function can do without a race gets the same answer
            functions.update(getattr(os, name) for name, before in self._before.items() if before in functions)
        _listener, _watch = self._hear, self
        if not _installed:
            sys.addaudithook(_pass_on)
            _installed = True
        return self

    def __exit__(self, *exc: object) -> None:
        global _listener, _watch
        _listener = _watch = None
        os.environ = self._environment  # noqa: B003
        for name, function in self._before.items():
            for functions in _SUPPORTED:
                functions.discard(getattr(os, name))
            setattr(os, name, function)

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Within the block nothing is noted, in any thread."""
        self._paused += 1
        try:
            yield
        finally:
            self._paused -= 1

    # looks

    def _note(self, path: Any, depth: Depth, *, follow: bool = True, directory: int | None = None) -> None:
        if self._paused or getattr(self._busy, "now", False):
            return
        self._busy.now = True
        try:
            if (absolute := _absolute(path, directory)) is None:
                self.looks.fail(f"{path!r} has no name")
            elif not self._is_ours(absolute):
                if follow and (mark := mark_of(absolute, False, "there"))[:1] == (stat.S_IFLNK,):
                    self.looks.add(absolute, False, "there", mark)  # it may be made to lead elsewhere
                self.looks.add(absolute, follow, depth)
        except OSError as error:  # who looks gets it, too
            self.looks.fail(f"{path!r}: {error.strerror}")
        finally:
            self._busy.now = False

    def _is_ours(self, path: str) -> bool:
        plain = os.path.normpath(path)  # of what leads out again nobody knows where it comes from
        return plain == path.rstrip("/") and f"{plain}/".startswith(self._ours)

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "subprocess.Popen":
            if not self._paused and not getattr(self._busy, "asking", False):
                self.looks.fail(f"{arguments[0]} was asked")
        elif event != "open":
            path = arguments[0] if arguments[0] is not None else "."
            self._note(path, "names")
        elif isinstance(arguments[0], int):  # a descriptor that was opened in a way of its own (vmm/beneath.py)
            if (name := _name_of(arguments[0])) is not None:
                self._note(name, "there" if _writes(arguments) else "content", follow=False)
        elif not getattr(self._busy, "opening", False):
            self._note(arguments[0], "there" if _writes(arguments) else "content")

    # the doors that tell nobody

    def _stat(self, path: Any, *, dir_fd: int | None = None, follow_symlinks: bool = True) -> os.stat_result:
        if not isinstance(path, int):
            self._note(path, "there", follow=follow_symlinks, directory=dir_fd)
        seen: os.stat_result = self._before["stat"](path, dir_fd=dir_fd, follow_symlinks=follow_symlinks)
        return seen

    def _lstat(self, path: Any, *, dir_fd: int | None = None) -> os.stat_result:
        self._note(path, "there", follow=False, directory=dir_fd)
        seen: os.stat_result = self._before["lstat"](path, dir_fd=dir_fd)
        return seen

    def _open(self, path: Any, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        follow = not flags & getattr(os, "O_NOFOLLOW", 0)
        directory = flags & (getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_PATH", 0))
        writes = flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        self._note(path, "there" if directory or writes else "content", follow=follow, directory=dir_fd)
        self._busy.opening = True  # the event of this very call knows no `dir_fd`
        try:
            descriptor: int = self._before["open"](path, flags, mode, dir_fd=dir_fd)
        finally:
            self._busy.opening = False
        return descriptor

    def _access(self, path: Any, mode: int, **options: Any) -> bool:
        self._note(path, "there", directory=options.get("dir_fd"))
        return bool(self._before["access"](path, mode, **options))

    def _readlink(self, path: Any, *, dir_fd: int | None = None) -> Any:
        self._note(path, "there", follow=False, directory=dir_fd)
        return self._before["readlink"](path, dir_fd=dir_fd)


@contextlib.contextmanager
def asking(files: Iterable[str], prefixes: Iterable[str] = ()) -> Iterator[None]:
    """Within the block this thread asks another program.

    It is configured by `files` (of a directory all entries count, those of its directories, too) and by the variables
    whose names begin with one of `prefixes`, in any case.
    """
    watch = _watch
    if watch is None or watch._paused:
        yield
        return
    for path in files:
        watch._note(path, "content")
        for directory, _, names in os.walk(path):
            watch._note(directory, "names")
            for name in names:
                watch._note(os.path.join(directory, name), "content")  # noqa: PTH118 - pathlib would look, too
    environment = watch._environment
    watch.looks.add_variable("PATH", environment.get("PATH"))
    watch.looks.add_beginnings(prefixes, environment)
    watch._busy.asking = True
    try:
        yield
    finally:
        watch._busy.asking = False


def _pass_on(event: str, arguments: tuple[Any, ...]) -> None:
    if event in _HEARD and (listener := _listener) is not None:
        listener(event, arguments)


def _writes(arguments: tuple[Any, ...]) -> bool:
    mode = arguments[1]
    return isinstance(mode, str) and any(letter in mode for letter in "wax+")


def _absolute(path: Any, directory: int | None) -> str | None:
    """The path as a text; of a descriptor, or relative to one, by what the kernel calls it."""
    if isinstance(path, int):
        return _name_of(path)
    text = os.fsdecode(path)
    if text.startswith("/"):
        return text
    if directory is None:
        return os.path.join(os.getcwd(), text)  # noqa: PTH109, PTH118 - pathlib would look at files itself
    if (above := _name_of(directory)) is None:
        return None
    return os.path.normpath(f"{above}/{text}")


def _name_of(descriptor: int) -> str | None:
    watch = _watch
    readlink = watch._before["readlink"] if watch is not None else os.readlink
    try:
        name = os.fsdecode(readlink(f"/proc/self/fd/{descriptor}"))
    except OSError:
        return None
    return name if name.startswith("/") and not name.endswith(" (deleted)") else None


class _Variables(MutableMapping[str, str]):
    """The environment, which notes each variable that is asked for by its name."""

    def __init__(self, real: Any, looks: Looks) -> None:
        self._real = real
        self._looks = looks

    def __getitem__(self, name: str) -> str:
        value: str | None = self._real.get(name)
        if name not in SET_BY_US:
            self._looks.add_variable(name, value)
        if value is None:
            raise KeyError(name)
        return value

    def __setitem__(self, name: str, value: str) -> None:
        self._real[name] = value

    def __delitem__(self, name: str) -> None:
        del self._real[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._real)

    def __len__(self) -> int:
        return len(self._real)

    def items(self) -> Any:
        """Whoever takes all of them asks for none by its name."""
        return self._real.items()

    def values(self) -> Any:
        return self._real.values()

    def copy(self) -> dict[str, str]:
        return dict(self._real)
