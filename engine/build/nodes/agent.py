"""A coding agent in the guest, as its definition says: its layer is plugged in, and the other steps run there."""

from __future__ import annotations

import asyncio
import json
import posixpath
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from engine.agents.installation import Download, InstallStep, Links, NpmInstall
from engine.agents.words import fill
from engine.build.context import BuildContext
from engine.build.nodes import attach_layer
from engine.build.nodes.agent_layer import LAYER, PACKAGE, read_links
from engine.build.nodes.packages import install_packages
from engine.build.step import execute
from engine.errors import EngineError
from engine.guest.guest import Guest
from engine.guest.layer import PLACE
from sandboxfile import Endpoint
from vmm.spec import DISK_SLOT, Drive

HOME = "/home/agent"
PREFIX = "/usr/local"  # else npm takes the directory of the node that runs it, which may be in the layer
SERIAL = "agent"
DEBIAN, NPM = Endpoint(group="debian"), Endpoint(group="npm")
LINK = """
mapfile -t found < <(compgen -G "$1/$2")
if [ ${#found[@]} != 1 ] || [ ! -f "${found[0]}" ]; then
    echo "$2 should be one file below $1; there are ${#found[@]}: ${found[*]}" >&2
    exit 1
fi
chmod a+rx -- "${found[0]}"
ln -sfn -- "${found[0]}" "/usr/local/bin/$3"
"""


@dataclass(frozen=True)
class Action:
    """One step of an installation: `what` is done, with the package of the node `package` where it needs one.
    `sha256` is what a download has to have, where that is known."""

    what: NpmInstall | Download | str
    package: str | None = None
    hosts: tuple[str, ...] = ()
    sha256: str | None = None


def action_of(step: InstallStep, package: str | None, architecture: str | None = None) -> Action:
    """What a step of a definition does; `package` is the node of its package. The digest of a download is that for
    `architecture`, Debian's name of it; None: none is known for this version."""
    if step.download is not None:
        digests = step.download.sha256
        sha256 = getattr(digests, architecture, None) if digests is not None and architecture else None
        return Action(step.download, hosts=step.download.hosts, sha256=sha256)
    what = step.npm or step.run
    assert what is not None, "the model allows no step without one, and what is unpacked is in the layer"
    return Action(what, package, step.hosts)


@dataclass(frozen=True)
class InstallAgent:
    """Install `debian` packages, plug in the layer, and carry out the `actions`, with `version` filled in.

    `architecture` is Debian's name of the guest's; `layer` is the id of the layer's node, None without one.
    """

    version: str
    architecture: str
    debian: tuple[str, ...]
    actions: tuple[Action, ...]
    layer: str | None = None

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        """What the installation may reach: no more than its steps need."""
        found = [DEBIAN] if self.debian else []
        for action in self.actions:
            if isinstance(action.what, NpmInstall):
                found.append(NPM)
            if isinstance(action.what, Download):
                found.append(Endpoint(host=urlsplit(self._url(action.what)).hostname))
            found += [Endpoint(host=host) for host in action.hosts]
        return tuple(dict.fromkeys(found))

    def describe(self) -> object:
        """Everything that the result depends on, but for the packages and the layer, as plain data."""
        steps = [
            action.what if isinstance(action.what, str) else action.what.model_dump(mode="json")
            for action in self.actions
        ]
        return [self.version, self.architecture, self.debian, steps]

    async def act(self, guest: Guest, context: BuildContext) -> None:
        if self.debian:
            await install_packages(guest, context, self.debian)
        if self.layer is not None:
            await _attach(guest, context, context.parents[self.layer])
        for action in self.actions:
            match action.what:
                case NpmInstall():
                    await self._npm(guest, context, action.what, action.package or "")
                case Download():
                    await self._download(guest, context, action.what, action.sha256)
                case str():
                    await self._run(guest, context, action.what)

    async def _npm(self, guest: Guest, context: BuildContext, what: NpmInstall, node: str) -> None:
        title = f"installing {what.package} with npm"
        directory = "/var/lib/sandbox/agent"
        await execute(guest, context, ["mkdir", "-p", directory], title=f"making {directory}")
        await _put_file(guest, context, node, f"{directory}/{PACKAGE}")
        options = ["--no-audit", "--no-fund", "--ignore-scripts", *([] if what.optional else ["--omit=optional"])]
        npm = ["npm", "install", "--global", "--prefix", PREFIX, *options, f"{directory}/{PACKAGE}"]
        await execute(guest, context, npm, title=title, env={"HOME": "/root"})
        if what.scripts:
            scripts = ["npm", "rebuild", "--global", "--prefix", PREFIX, *what.scripts]
            await execute(guest, context, scripts, title=f"install scripts of {' '.join(what.scripts)}")
        clean = f'npm cache clean --force; rm -rf "$HOME/.npm" {directory}'
        await execute(guest, context, ["sh", "-c", clean], title="cleaning up", env={"HOME": "/root"})

    async def _download(self, guest: Guest, context: BuildContext, what: Download, sha256: str | None) -> None:
        url = self._url(what)
        target = posixpath.join(what.into, posixpath.basename(url))
        curl = ["curl", "-fsSL", "--proto", "=https", "--retry", "2", "--create-dirs", "-o", target, "--", url]
        await execute(guest, context, curl, title=f"downloading {url}")
        if sha256 is not None:
            await _check(guest, context, target, sha256, url)
        if what.unpack is not None:
            unpack = {
                "tar.gz": ["tar", "-xzf", target, "--no-same-owner", "-C", what.into],
                "zip": ["python3", "-m", "zipfile", "-e", target, what.into],
            }[what.unpack]
            await execute(guest, context, unpack, title=f"unpacking {target}")
            await execute(guest, context, ["rm", "-f", target], title="cleaning up")
        await _link(guest, context, what.into, what.links)

    def _url(self, what: Download) -> str:
        if (url := getattr(what, self.architecture, None)) is None:
            raise EngineError(f"there is no download of this agent for {self.architecture}")
        return str(fill(url, {"version": self.version}))

    async def _run(self, guest: Guest, context: BuildContext, what: str) -> None:
        script = fill(what, {"version": self.version})
        title = script.strip().splitlines()[0]
        await execute(guest, context, ["bash", "-ec", script], title=title, user="agent", cwd=HOME)


async def _attach(guest: Guest, context: BuildContext, entry: Path) -> None:
    """Plug the layer in, mount it, and make the links into it. Waits `attach_layer.DISK_S` seconds for the disk."""
    context.log("plugging the layer in")
    drive = Drive(entry / LAYER, SERIAL, "raw", read_only=True, slot=DISK_SLOT)
    await guest.machine.plug_drive(drive)
    told = json.dumps({"serial": SERIAL, "place": PLACE, "links": read_links(entry)})
    program = Path(attach_layer.__file__).read_text()
    await execute(guest, context, ["python3", "-I", "-c", program, told], title="mounting the layer")


async def _put_file(guest: Guest, context: BuildContext, node: str, target: str) -> None:
    """Copy the package of `node` as it is."""
    data = await asyncio.to_thread((context.parents[node] / PACKAGE).read_bytes)
    write = ["sh", "-c", 'cat > "$1"', "sh", target]
    done = await guest.channel.run(write, stdin=data, timeout_s=600)
    if done.code != 0:
        raise EngineError(f"{target} could not be written in the guest", done.stderr.decode(errors="replace"))


async def _check(guest: Guest, context: BuildContext, path: str, sha256: str, url: str) -> None:
    """Compare the digest of a download. One that differs is removed, and nothing of it has been run."""
    done = await guest.channel.run(["sha256sum", "--", path], timeout_s=600)
    found = done.stdout.split()[:1]
    if done.code != 0 or found != [sha256.encode()]:
        await execute(guest, context, ["rm", "-f", "--", path], title="removing the download")
        got = (found[0] if found else done.stderr).decode(errors="replace").strip()
        raise EngineError(
            f"{url} is not the program that it should be",
            f"expected {sha256}\ngot      {got}",
            "the vendor, or something on the way to it, has changed it: it was not installed. If its makers say that"
            " they did, name the new digest in the agent's definition",
        )


async def _link(guest: Guest, context: BuildContext, directory: str, links: Links) -> None:
    """Put programs on the guest's PATH. A path may name any one directory as `*`."""
    for name, path in links.items():
        await execute(guest, context, ["bash", "-c", LINK, "bash", directory, path, name], title=f"linking {name}")
