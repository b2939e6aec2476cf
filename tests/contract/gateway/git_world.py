"""Real git through the gateway: its client in the guest's place, `git http-backend` behind a TLS server of the test."""

from __future__ import annotations

import asyncio
import gzip
import os
import subprocess
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from h2_world import Connection, Server
from inside_world import InsideWorld, fields_of, guest_authority, inside_world, server_authority

from engine.gateway.rules import Rule
from engine.resolve.endpoints import Registries, endpoint_places
from sandboxfile import parse

GITHUB = "github.com"
TOKEN = "ghp_real0123456789abcdef"
_GIT = {
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_AUTHOR_NAME": "a",
    "GIT_AUTHOR_EMAIL": "a@example.com",
    "GIT_COMMITTER_NAME": "a",
    "GIT_COMMITTER_EMAIL": "a@example.com",
    "PATH": os.environ["PATH"],
    "LC_ALL": "C",
}


def rules_of(endpoint: str) -> tuple[Rule, ...]:
    """The gateway's rules of one endpoint, as the file's language has it; the secret github is there."""
    text = f'version: "1"\nsecrets: {{github: {{env: GH_TOKEN}}}}\nendpoints:\n  - {endpoint}\n'
    loaded = parse(text, Path("/p/Sandboxfile.yaml"))
    policy = Registries().policy(loaded.sandbox.endpoints, {"github": None}, endpoint_places(loaded))
    return tuple(policy.rules)


@dataclass
class Seen:
    method: str
    target: str
    headers: dict[str, list[str]]
    body: bytes


@dataclass
class GitServer:
    """Serves the repositories below `root` to everybody, and remembers what it was asked."""

    root: Path
    requests: list[Seen] = field(default_factory=list)

    @property
    def pushes(self) -> list[Seen]:
        """The pushes that arrived, without the questions whether one may push at all."""
        posts = [seen for seen in self.requests if seen.target.endswith("/git-receive-pack")]
        return [seen for seen in posts if seen.body != b"0000"]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                method, target, _ = head.split(b"\r\n")[0].decode().split(" ")
                headers = fields_of(head)
                seen = Seen(method, target, headers, await read_body(reader, headers))
                self.requests.append(seen)
                status, fields, body = await self.answer(seen)
                lines = "".join(f"{name}: {value}\r\n" for name, value in fields)
                writer.write(f"HTTP/1.1 {status} X\r\n{lines}Content-Length: {len(body)}\r\n\r\n".encode() + body)
                await writer.drain()

    async def serve_h2(self, server: Server, connection: Connection, number: int) -> None:
        """The answer to one request by HTTP/2."""
        request = connection.requests[number]
        while not request.ended:
            connection.moved.clear()
            await connection.moved.wait()
        headers = {name: request.get(name) for name, _ in request.headers}
        seen = Seen(headers[":method"][0], headers[":path"][0], headers, bytes(request.body))
        self.requests.append(seen)
        status, fields, body = await self.answer(seen)
        extra = [(name.lower(), value) for name, value in fields]
        connection.respond(number, status=status, end=False, extra=extra)
        await connection.send(number, body, end=True)

    async def answer(self, seen: Seen) -> tuple[int, list[tuple[str, str]], bytes]:
        """By git's own program for servers."""
        path, _, query = seen.target.partition("?")
        environment = _GIT | {
            "GIT_PROJECT_ROOT": str(self.root),
            "GIT_HTTP_EXPORT_ALL": "1",
            "HOME": str(self.root),
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "REMOTE_ADDR": "127.0.0.1",
            "REMOTE_USER": "agent",
            "REQUEST_METHOD": seen.method,
            "CONTENT_TYPE": "".join(seen.headers.get("content-type", [])),
            "HTTP_GIT_PROTOCOL": "".join(seen.headers.get("git-protocol", [])),
        }
        body = gzip.decompress(seen.body) if seen.headers.get("content-encoding") == ["gzip"] else seen.body
        process = await asyncio.create_subprocess_exec(
            "git", "http-backend", env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        out, _ = await process.communicate(body)
        head, _, rest = out.partition(b"\r\n\r\n")
        fields = [tuple(line.split(": ", 1)) for line in head.decode().split("\r\n") if ": " in line]
        status = next((int(value.split()[0]) for name, value in fields if name == "Status"), 200)
        return status, [(name, value) for name, value in fields if name != "Status"], rest


async def read_body(reader: asyncio.StreamReader, headers: dict[str, list[str]]) -> bytes:
    if "content-length" in headers:
        return await reader.readexactly(int(headers["content-length"][0]))
    body = b""
    if "transfer-encoding" in headers:
        while size := int(await reader.readuntil(b"\r\n"), 16):
            body += await reader.readexactly(size)
            await reader.readexactly(2)
        await reader.readuntil(b"\r\n")
    return body


@dataclass
class GitWorld:
    inside: InsideWorld
    server: GitServer
    directory: Path  # the guest's
    proxy: int

    @property
    def origin(self) -> Path:
        return self.server.root / "acme" / "shop.git"

    async def git(self, *words: str, where: str = "work", fails: bool = False) -> str:
        """Run git as in the guest; its output and messages. Asserts whether it fails."""
        environment = _GIT | {
            "HOME": str(self.directory),
            "GIT_SSL_CAINFO": str(self.directory / "ca.pem"),
            "https_proxy": f"http://127.0.0.1:{self.proxy}",
        }
        place = self.directory / where
        process = await asyncio.create_subprocess_exec(
            "git",
            *words,
            cwd=place if place.is_dir() else self.directory,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        out, _ = await process.communicate()
        text = out.decode(errors="replace")
        assert (process.returncode != 0) == fails, text
        return text

    async def clone(self, *words: str) -> None:
        await self.git("clone", "-q", *words, f"https://{GITHUB}/acme/shop.git", "work")

    async def commit(self, name: str, content: bytes = b"x") -> None:
        (self.directory / "work" / name).write_bytes(content)
        await self.git("add", ".")
        await self.git("commit", "-q", "-m", name)

    def refs(self) -> dict[str, str]:
        """The server's refs and their ids."""
        listed = git_at(self.origin, "for-each-ref", "--format=%(refname) %(objectname)")
        return dict(line.split(" ") for line in listed.splitlines())


def git_at(place: Path, *words: str) -> str:
    done = subprocess.run(["git", *words], cwd=place, env=_GIT | {"HOME": str(place)}, capture_output=True, check=True)
    return done.stdout.decode()


def make_origin(root: Path) -> None:
    """acme/shop.git with two commits on main, and agent/old."""
    seed = root / "seed"
    seed.mkdir(parents=True)
    git_at(seed, "init", "-q", "-b", "main")
    for name in ("one", "two"):
        (seed / name).write_text(name)
        git_at(seed, "add", ".")
        git_at(seed, "commit", "-q", "-m", name)
    git_at(seed, "branch", "agent/old")
    git_at(root, "clone", "-q", "--bare", "seed", "acme/shop.git")
    git_at(root / "acme" / "shop.git", "config", "receive.advertisePushOptions", "true")


@asynccontextmanager
async def git_world(tmp_path: Path, *endpoints: str, alpn: str = "http/1.1") -> AsyncIterator[GitWorld]:
    """A guest with these endpoints in its file."""
    root, directory = tmp_path / "server", tmp_path / "guest"
    directory.mkdir()
    make_origin(root)
    (directory / "ca.pem").write_text(guest_authority().certificate)
    rules = [rule for endpoint in endpoints for rule in rules_of(endpoint)]
    backend = GitServer(root)
    handler = Server(backend.serve_h2).serve if alpn == "h2" else backend.serve
    secrets = {"github": TOKEN}.get
    certificate = server_authority().context(GITHUB, alpn)
    async with inside_world(*rules, handler=handler, secrets=secrets, server=certificate) as inside:
        async with connect_proxy(inside) as proxy:
            yield GitWorld(inside, backend, directory, proxy)


@asynccontextmanager
async def connect_proxy(inside: InsideWorld) -> AsyncIterator[int]:
    """In the place of the guest's network: leads to the gateway, whatever the name."""
    tasks: set[asyncio.Task[None]] = set()

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(1 << 16):
                writer.write(data)
                await writer.drain()
            writer.write_eof()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        far = await asyncio.open_unix_connection(str(inside.plain.gateway.sockets[443]))
        writer.write(b"HTTP/1.1 200 Fine\r\n\r\n")
        try:
            await asyncio.gather(copy(reader, far[1]), copy(far[0], writer))
        finally:
            far[1].close()
            writer.close()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(serve(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    listener = await asyncio.start_server(accept, "127.0.0.1", 0)
    try:
        yield listener.sockets[0].getsockname()[1]
    finally:
        listener.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await listener.wait_closed()


def commands(push: Seen) -> Sequence[bytes]:
    """The refs that a push names."""
    found, at = [], 0
    while (length := int(push.body[at : at + 4], 16)) != 0:
        line = push.body[at + 4 : at + length]
        if not line.startswith(b"shallow"):
            found.append(line.split(b"\0")[0].split(b" ")[2].strip())
        at += length
    return found
