"""The paths of all files that we keep.

Three roots: the cache (can be made again), the state (cannot) and the runtime directory (sockets; gone after a reboot).
A fourth, the configuration, is the user's own: it is read, and never written.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from engine.errors import EngineError
from engine.state.instance_paths import ForkPaths, InstancePaths, Sockets
from engine.state.roots import INSTANCES, NAME, digest, is_private, root_of, shorten

ROOTS = ("cache", "state", "runtime")
TMP, LOCKS = "tmp", "locks"  # reserved: no kind of entry is called so

_NAME = re.compile(NAME)
_KIND = re.compile(r"[a-z][a-z0-9-]{0,31}")
_KEY = re.compile(r"[0-9a-f]{8,64}")

_README = {
    "cache": "The cache of `sandbox`: tools, guest images and snapshots of machines, by content.\n"
    "Everything here can be made again. Delete all of it while no sandbox exists; a snapshot in use by a sandbox is\n"
    "part of that sandbox's disk.\n",
    "state": "The sandboxes of `sandbox`: one directory each under instances/.\n"
    "Delete with `sandbox down NAME`, not by hand: a running one would lose its disk.\n",
    "runtime": "Sockets of running sandboxes. Delete nothing here while one runs; a reboot empties it.\n",
}


class Layout(NamedTuple):
    """The three roots, and the path of everything below them.

    The methods only compute paths; `prepare` makes the roots.
    """

    cache: Path
    state: Path
    runtime: Path
    config: Path = Path()

    @classmethod
    def from_environment(cls, env: Mapping[str, str]) -> Layout:
        """The roots that `env` asks for (`root_of`); they exist afterwards (`prepare`). Raises EngineError."""
        layout = cls(*(Path(root_of(root, env)) for root in (*ROOTS, "config")))
        layout.prepare()
        return layout

    def to_environment(self) -> dict[str, str]:
        """The variables with which a child process finds the same roots."""
        return {f"SANDBOX_{root.upper()}_DIR": str(getattr(self, root)) for root in (*ROOTS, "config")}

    def prepare(self) -> None:
        """Make the roots, each with a README. Only this user can enter them.

        If other users can enter the cache or the state directory, its mode is changed. Raises EngineError when a root
        cannot be made or closed, when it belongs to somebody else, and when other users can enter the runtime
        directory: they could have put their own sockets there, and answer in the place of a supervisor.
        """
        try:
            self.runtime.parent.mkdir(parents=True, exist_ok=True)
            self.runtime.mkdir(exist_ok=True, mode=0o700)
            _check_private(self.runtime)
            for root in ("cache", "state"):
                directory: Path = getattr(self, root)
                directory.mkdir(parents=True, exist_ok=True, mode=0o700)
                _close(directory, f"SANDBOX_{root.upper()}_DIR")
            for root in ROOTS:
                readme = getattr(self, root) / "README"
                if not readme.exists():
                    readme.touch(mode=0o600)
                    readme.write_text(_README[root])
        except OSError as error:
            raise EngineError(
                f"cannot use {error.filename}: {error.strerror}",
                hint="SANDBOX_CACHE_DIR, SANDBOX_STATE_DIR and SANDBOX_RUNTIME_DIR choose other places",
            ) from error

    # -- cache

    def kind(self, kind: str) -> Path:
        return self.cache / _checked(_KIND, kind, "kind of cache entry", forbidden=(TMP, LOCKS))

    def entry(self, kind: str, key: str) -> Path:
        return self.kind(kind) / _checked(_KEY, key, "cache key")

    def entry_record(self, entry: Path) -> Path:
        return entry / "entry.json"

    def entry_marker(self, entry: Path) -> Path:
        return entry / "complete"

    def entry_files(self, entry: Path) -> Path:
        """Sizes, times and digests of the entry's files."""
        return entry / "files.json"

    @property
    def temporary(self) -> Path:
        return self.cache / TMP

    def temporary_entry(self, kind: str, key: str, random: str) -> Path:
        """Where an entry is built.

        It is as deep as the finished entries, so that relative paths to other entries (backing files of disks) stay
        right when it is moved to its place.
        """
        return self.temporary / f"{self.kind(kind).name}-{_checked(_KEY, key, 'cache key')}-{random}"

    def entry_lock(self, kind: str, key: str) -> Path:
        return self.cache / LOCKS / f"{self.kind(kind).name}-{_checked(_KEY, key, 'cache key')}.lock"

    def entry_lock_owner(self, kind: str, key: str) -> Path:
        """The file in which the process that holds the lock writes who it is."""
        return self.entry_lock(kind, key).with_suffix(".json")

    def hold(self, random: str) -> Path:
        """The file in which a running process says which entries it needs."""
        return self.cache / LOCKS / f"hold-{random}.json"

    def holds(self) -> list[Path]:
        return self._locks("hold-")

    @property
    def removal_lock(self) -> Path:
        return self.cache / LOCKS / "removal.lock"

    def noted_state(self, digest: str) -> Path:
        """The file that names a state directory whose sandboxes use this cache."""
        return self.cache / LOCKS / f"state-{digest}.json"

    def noted_states(self) -> list[Path]:
        return self._locks("state-")

    def _locks(self, prefix: str) -> list[Path]:
        """Raises OSError where there is too little of something to look."""
        from engine.files import names_in  # `exec` has no need of it

        locks = self.cache / LOCKS
        return [locks / name for name in names_in(locks) if name.startswith(prefix) and name.endswith(".json")]

    # -- state and runtime

    @property
    def instances(self) -> Path:
        return self.state / INSTANCES

    def instance(self, name: str) -> InstancePaths:
        """The paths of the sandbox `name`. Raises EngineError for a name that is not one plain path component."""
        checked = _checked(_NAME, name, "sandbox name")
        return InstancePaths(self.instances / checked, Sockets(self.runtime / shorten(checked)))

    @property
    def forks(self) -> Path:
        return self.state / "forks"

    def fork(self, random: str) -> ForkPaths:
        """Where what a running sandbox is now is written. Raises EngineError for what is no key."""
        return ForkPaths(self.forks / _checked(_KEY, random, "fork", forbidden=()))

    @property
    def snapshots(self) -> Path:
        return self.state / "snapshots"

    def snapshot(self, label: str) -> ForkPaths:
        """A fork that is kept under a name. Raises EngineError for a name that is not one plain path component."""
        return ForkPaths(self.snapshots / _checked(_NAME, label, "name of a snapshot"))

    @property
    def forks_lock(self) -> Path:
        """Held while a fork is made room for, while it gets a name, and while those that nobody needs are removed."""
        return self.state / LOCKS / ".forks.lock"

    def instance_lock(self, name: str) -> Path:
        return self.state / LOCKS / f"{_checked(_NAME, name, 'sandbox name')}.lock"

    def waker(self, name: str) -> Path:
        """Where the process is asked that listens for the paused sandbox `name`."""
        return self.runtime / f".wake-{shorten(_checked(_NAME, name, 'sandbox name'))}"

    def group(self, name: str = "") -> str:
        """What the control group of a sandbox is called; without a name, what those of this state begin with."""
        mark = hashlib.sha256(os.fsencode(self.state)).hexdigest()[:8]
        return f"{mark}-{name and _checked(_NAME, name, 'sandbox name')}"

    def build_sockets(self, random: str) -> Sockets:
        """The sockets of a machine that builds a cache entry. No sandbox's name can begin with the dot."""
        return Sockets(self.runtime / f".build-{random}")

    @property
    def all_failed(self) -> Path:
        return self.state / "failed"

    def failed(self, name: str) -> InstancePaths:
        """The files that a failed start has left, under their usual names. Raises EngineError as `instance` does."""
        return self.instance(name)._replace(directory=self.all_failed / name)

    def remembered(self, words: str) -> Path:
        """The file of the start that was remembered under a digest of its words."""
        return self.state / "remembered" / f"{_checked(_KEY, words, 'digest', ())}.json"

    @property
    def trust(self) -> Path:
        return self.state / "trust"

    def approval(self, file: Path) -> Path:
        """The record of the approval of `file`, a real path. The stem of the record's name is its id."""
        return self.trust / f"{digest(os.fsencode(file))[:16]}.json"

    @property
    def secrets(self) -> Path:
        return self.state / "secrets.json"

    @property
    def ssh_config(self) -> Path:
        """Is there once the user wants aliases in ~/.ssh/config, which includes it."""
        return self.state / "ssh_config"

    @property
    def secrets_lock(self) -> Path:
        return self.secrets.with_suffix(".lock")

    @property
    def secret_settings(self) -> Path:
        return self.config / "secrets.yaml"

    def project_plan(self, project: Path, agent: str | None = None) -> Path:
        """What is remembered of the last build. `agent` is the key in `agents`, for a file that has several."""
        name = "plan.json" if agent is None else f"plan-{_checked(_NAME, agent, 'name of an agent')}.json"
        return self._project(project) / name

    def project_seen(self, project: Path) -> Path:
        """The notes about the content of the project's unnamed files at the last start."""
        return self._project(project) / "seen.json"

    def project_kept(self, project: Path, name: str) -> Path:
        """What is kept of the sandbox `name` for the next one of that name."""
        return self._project(project) / f"kept-{_checked(_NAME, name, 'sandbox name')}.tar"

    def all_kept(self, project: Path) -> list[Path]:
        """What is kept of all sandboxes of the project."""
        return sorted(self._project(project).glob("kept-*.tar"))

    def _project(self, project: Path) -> Path:
        return self.state / "projects" / digest(os.fsencode(project.resolve()))[:16]


def habits_file(env: Mapping[str, str]) -> Path:
    """Where the user says how they like it. It need not exist. Raises EngineError."""
    return Path(root_of("config", env), "config.yaml")


def own_agents(env: Mapping[str, str]) -> Path:
    """The directory with the user's own definitions of agents. It need not exist. Raises EngineError."""
    return Path(root_of("config", env), "agents")


def _close(directory: Path, variable: str) -> None:
    """Let no other user enter the directory. Raises OSError, and EngineError when it belongs to somebody else.

    The directory may be a link, as of a cache that was moved to a larger disk. Then the target of the link is checked.
    """
    status = directory.stat()
    if is_private(status):
        return
    if status.st_uid != os.getuid():
        where = f", through the link {directory}" if directory.is_symlink() else ""
        raise EngineError(
            f"{directory.resolve()} belongs to somebody else (user {status.st_uid}{where})",
            details="they could read the memory of your sandboxes there, and change the programs that run them",
            hint=f"remove it, or set {variable} to a directory of your own",
        )
    directory.chmod(0o700)  # an older version, or another program, has left it open
    if not is_private(directory.stat()):
        raise EngineError(
            f"{directory.resolve()} can be entered by others, and its file system does not let us change that",
            details="others could read the memory of your sandboxes there",
            hint=f"set {variable} to a directory on a file system with modes",
        )


def _check_private(directory: Path) -> None:
    status = directory.lstat()
    if is_private(status):
        return
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid():
        raise EngineError(
            f"{directory} is not a directory of yours",
            details="somebody else who owns it could answer in the place of a sandbox",
            hint="remove it, or set SANDBOX_RUNTIME_DIR to a directory that only you can enter",
        )
    raise EngineError(
        f"{directory} can be entered by others (mode {stat.S_IMODE(status.st_mode):o})",
        hint=f"chmod 700 {directory}",
    )


def _checked(pattern: re.Pattern[str], text: str, what: str, forbidden: tuple[str, ...] = ()) -> str:
    """Return `text` if it may become part of a path: nothing may lead out of its root. Raises EngineError."""
    if not pattern.fullmatch(text) or text in forbidden:
        raise EngineError(f"{text!r} is not a {what}", hint=f"it must match {pattern.pattern}")
    return text
