"""`ssh-config` and `ssh-proxy`: aliases of sandboxes for the host's ssh, and the connection behind one of them."""

from __future__ import annotations

import os
import re
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from engine.errors import EngineError
from engine.state.instance_paths import SshPaths

if TYPE_CHECKING:
    from collections.abc import Mapping

    from engine.state.layout import Layout

USER = "agent"
_USER = re.compile(r"[a-z_][a-z0-9_-]{0,31}")


class Server(NamedTuple):
    """How the sshd of one connection is started, in the guest behind the socket `control`."""

    control: Path
    argv: tuple[str, ...]
    user: str
    directory: str
    environment: Mapping[str, str]


def aliases(layout: Layout, name: str | None, user: str = USER) -> str:
    """What ssh's configuration says about the sandbox `name`, or about all that run. Makes keys where there are none.

    Raises EngineError, also where nothing runs.
    """
    from engine.lifecycle.selection import STARTS_ONE, choose_running
    from engine.state.instances import list_instances

    if name is not None:
        names = [choose_running(layout, name)[0].name]
    else:
        names = [listed.name for listed in list_instances(layout) if listed.liveness in ("running", "unresponsive")]
    if not names:
        raise EngineError("no sandbox runs", hint=STARTS_ONE)
    return "\n".join(_block(layout, each, user) for each in names)


def install_aliases(layout: Layout, file: Path) -> bool:
    """Have the user's ssh `file` include the aliases, those of later sandboxes, too; whether that changed the file.

    Raises EngineError and OSError.
    """
    from engine.files import replace_private, rewrite
    from engine.ssh.client import include_file, include_line, with_line
    from engine.state.instances import list_instances

    replace_private(layout.ssh_config, include_file(layout.instances, _program()))
    for listed in list_instances(layout, answers=lambda control: True):
        if listed.liveness in ("running", "unresponsive"):
            write_alias(layout, listed.name)
    before = file.read_bytes() if file.exists() else None
    after = with_line((before or b"").decode(errors="surrogateescape"), include_line(layout.ssh_config))
    data = after.encode(errors="surrogateescape")
    if data == before:
        return False
    if before is None:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        replace_private(file, after)
    else:
        rewrite(file, before, data)
    return True


def remove_aliases(layout: Layout, file: Path) -> bool:
    """Undo `install_aliases`; whether that changed the file. Raises EngineError and OSError."""
    from engine.files import rewrite
    from engine.ssh.client import include_line, without_line

    layout.ssh_config.unlink(missing_ok=True)
    if not file.exists():
        return False
    before = file.read_bytes()
    text = without_line(before.decode(errors="surrogateescape"), include_line(layout.ssh_config))
    after = text.encode(errors="surrogateescape")
    if after == before:
        return False
    rewrite(file, before, after)
    return True


def write_alias(layout: Layout, name: str) -> None:
    """Write the alias of a sandbox where ssh finds it, once the user wants that. Raises EngineError and OSError."""
    if layout.ssh_config.exists():
        from engine.files import replace_private

        block = _block(layout, name, USER)
        replace_private(layout.instance(name).ssh.config, block)


def server_of(layout: Layout, name: str | None, user: str) -> Server:
    """The sshd for one connection to a running sandbox, whose keys are there: ssh has read one of them.

    Without a name, ssh has no alias that it was asked for. Raises EngineError, always for that.
    """
    from engine.lifecycle.selection import choose_running
    from engine.ssh.server import COMMAND, variables

    if name is None:
        raise EngineError("no sandbox of this name is up", hint="`sandbox ls` shows those that are")

    instance, control = choose_running(layout, name)
    paths = layout.instance(instance.name).ssh
    directory = instance.working_directory or "/"
    try:
        keys = {"host_key": paths.host_key.read_text(), "client_key": paths.public_identity.read_text()}
    except OSError:
        raise EngineError(f"{name} has no keys for ssh", hint=f"`sandbox ssh-config {name}` makes them") from None
    return Server(control, COMMAND, _user(user), directory, variables(user, directory, **keys))


def _block(layout: Layout, name: str, user: str) -> str:
    from engine.ssh.client import host_block

    paths = layout.instance(name).ssh
    _make_keys(paths, name)
    return host_block(
        name,
        user=_user(user),
        identity=paths.identity,
        known=paths.known_hosts,
        program=_program(),
        environment=layout.to_environment(),
    )


def _make_keys(paths: SshPaths, name: str) -> None:
    """All files at once: whoever comes second finds those of the first."""
    if paths.directory.is_dir():
        return
    from engine.files import make_private, replace_private
    from engine.ssh.client import known_hosts
    from engine.ssh.keys import make_key
    from engine.state.trees import remove_tree

    host, client = make_key(), make_key()
    beside = SshPaths(paths.directory.with_name(f"ssh.{os.urandom(4).hex()}"))
    make_private(beside.directory)
    try:
        replace_private(beside.host_key, host.private)
        replace_private(beside.identity, client.private)
        replace_private(beside.public_identity, f"{client.public}\n")
        replace_private(beside.known_hosts, known_hosts(name, host.public))
        beside.directory.rename(paths.directory)
    except OSError:
        if not paths.directory.is_dir():
            raise
    finally:
        remove_tree(beside.directory)


def _program() -> tuple[str, ...]:
    """What starts this program from any directory, without reading any code from there."""
    beside = Path(sys.executable).with_name("sandbox")
    found = str(beside) if beside.exists() else shutil.which("sandbox")
    return (found,) if found else (sys.executable, "-P", "-m", "engine.cli.main")


def _user(user: str) -> str:
    if not _USER.fullmatch(user):
        raise EngineError(f"{user!r} is not the name of a user", exit_code=2)
    return user
