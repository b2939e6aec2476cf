from __future__ import annotations

import asyncio
import base64
import json
import os
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingMixIn, UnixStreamServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from vmm.channel.errors import GuestError
from vmm.guest.guestd.__main__ import notify_ready

T = 20.0


class FakeDocker(ThreadingMixIn, UnixStreamServer):
    """As much of the Docker API as guestd uses; `change` alters a container and tells who listens to events."""

    daemon_threads = True

    def __init__(self, path: Path) -> None:
        super().__init__(str(path), Handler)
        self.containers: dict[str, dict[str, Any]] = {}
        self.changed = threading.Condition()
        self.version = 0
        self.looked = threading.Semaphore(0)
        self.told = threading.Semaphore(0)
        self.listening: list[socket.socket] = []

    def hang_up(self) -> None:
        """As the end of the daemon does with those who listen to events."""
        for each in self.listening:
            each.shutdown(socket.SHUT_RDWR)

    def change(self, service: str, **state: Any) -> None:
        with self.changed:
            self.containers.setdefault(service, {"Status": "created", "ExitCode": 0}).update(state)
            self.version += 1
            self.changed.notify_all()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FakeDocker

    def address_string(self) -> str:
        return "unix"

    def log_message(self, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        if url.path == "/events":
            self._events()
        elif url.path == "/containers/json":
            filters = json.loads(parse_qs(url.query)["filters"][0])
            assert filters == {"label": ["com.docker.compose.project=shop"]}
            label = "com.docker.compose.service"
            self._answer(200, [{"Id": name, "Labels": {label: name}} for name in [*self.server.containers]])
            self.server.looked.release()
        elif url.path.startswith("/containers/"):
            name = url.path.split("/")[2]
            self._answer(200, {"Name": f"/shop-{name}-1", "State": self.server.containers[name]})
        else:
            self._answer(200, "OK")

    def _answer(self, status: int, value: Any) -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _events(self) -> None:
        with self.server.changed:
            seen = self.server.version
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.server.listening.append(self.connection)
        try:
            while True:
                with self.server.changed:
                    self.server.changed.wait_for(lambda seen=seen: self.server.version > seen, timeout=T)
                    seen = self.server.version
                self.wfile.write(b'd\r\n{"event": 1}\n\r\n'.replace(b"d\r\n", b"%x\r\n" % 13))
                self.server.told.release()
        except OSError:
            self.close_connection = True


@pytest.fixture
def docker(tmp_path: Path) -> Iterator[FakeDocker]:
    with FakeDocker(tmp_path / "docker.sock") as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def health(process: Any, docker: FakeDocker, timeout_s: float = T) -> Any:
    return process.channel.call(
        "health", timeout_s, project="shop", services=["db", "web", "job"], socket=docker.server_address
    )


def test_health_waits_for_the_last_service(harness: Any, docker: FakeDocker) -> None:
    docker.change("job", Status="exited", ExitCode=0)
    docker.change("db", Status="running", Health={"Status": "starting"})

    async def scenario() -> None:
        async with harness.start_guestd() as process:
            waiting = asyncio.create_task(health(process, docker))
            await asyncio.to_thread(docker.looked.acquire)
            docker.change("web", Status="running")
            await asyncio.to_thread(docker.looked.acquire)  # it looked again because it was told
            log = [{"Output": "old"}, {"Output": "accepting connections"}]
            docker.change("db", Health={"Status": "healthy", "Log": log})
            answer = await waiting
            assert answer["ready"] and not answer["failed"]
            assert answer["services"]["db"] == {
                "state": "running",
                "health": "healthy",
                "exit_code": 0,
                "log": "accepting connections",
                "container": "shop-db-1",
            }
            assert answer["services"]["web"]["health"] is None

    asyncio.run(scenario())


@pytest.mark.parametrize(
    "state",
    [
        {"Status": "exited", "ExitCode": 3},
        {"Status": "dead"},
        {"Status": "running", "Health": {"Status": "unhealthy", "Log": [{"Output": "refused"}]}},
    ],
)
def test_health_ends_early_when_a_service_failed(harness: Any, docker: FakeDocker, state: dict[str, Any]) -> None:
    docker.change("db", **state)

    async def scenario() -> None:
        async with harness.start_guestd() as process:
            answer = await health(process, docker)
            assert answer["failed"] and not answer["ready"]
            assert answer["services"]["web"]["state"] == "missing"

    asyncio.run(scenario())


def looks(docker: FakeDocker) -> int:
    count = 0
    while docker.looked.acquire(blocking=False):
        count += 1
    return count


def test_the_next_question_is_answered_without_docker(harness: Any, docker: FakeDocker) -> None:
    """A restored machine says how its services are before its Docker has run."""
    for name in ("db", "web", "job"):
        docker.change(name, Status="running")

    async def main() -> None:
        async with harness.start_guestd() as process:
            first = await health(process, docker)
            assert first["ready"] and looks(docker) == 1
            assert await health(process, docker) == first and looks(docker) == 0
            assert (await health(process, docker))["ready"] and looks(docker) == 0
            # News: it looks again, and keeps that.
            docker.change("db", Health={"Status": "unhealthy", "Log": []})
            assert docker.told.acquire(timeout=T)
            assert (await health(process, docker))["failed"] and looks(docker) == 1
            docker.change("db", Health={"Status": "healthy", "Log": []})
            again = await health(process, docker)
            assert again["services"]["db"]["health"] == "healthy" and looks(docker) >= 1
            assert await health(process, docker) == again and looks(docker) == 0
            # Another question is not answered by the one before.
            other = process.channel.call("health", T, project="shop", services=["db"], socket=docker.server_address)
            assert list((await other)["services"]) == ["db"] and looks(docker) == 1

    asyncio.run(main())


def test_a_docker_that_has_gone_is_not_answered_for(harness: Any, docker: FakeDocker) -> None:
    for name in ("db", "web", "job"):
        docker.change(name, Status="running")

    async def main() -> None:
        async with harness.start_guestd() as process:
            assert (await health(process, docker))["ready"]
            docker.shutdown()
            docker.server_close()
            docker.hang_up()
            with pytest.raises(GuestError, match="Docker does not answer"):
                await health(process, docker)

    asyncio.run(main())


def test_health_at_its_deadline_tells_what_it_saw(harness: Any, docker: FakeDocker) -> None:
    docker.change("db", Status="restarting", ExitCode=1)

    async def scenario() -> None:
        async with harness.start_guestd() as process:
            answer = await health(process, docker, timeout_s=0.2)
            assert not answer["ready"] and not answer["failed"]
            assert answer["services"]["db"]["state"] == "restarting"

    asyncio.run(scenario())


def test_of_a_file_that_is_not_ours_alone_our_part_is_replaced(harness: Any, tmp_path: Path) -> None:
    """The agent's own words in it stay, whatever they are."""
    path, link, pipe, long = (tmp_path / name for name in ("NOTE.md", "link", "pipe", "long"))

    async def scenario() -> None:
        async with harness.start_guestd() as process:

            async def put(content: str, to: Path = path) -> None:
                file = {"path": str(to), "content": content, "mode": 0o600, "part": True}
                await process.channel.call("identity", T, files=[file])

            await put("")
            assert not path.exists()
            await put("one\n")
            assert path.read_text() == "<!-- sandbox: begin -->\none\n<!-- sandbox: end -->\n"
            path.write_text("mine\n")
            await put("one\n")
            path.write_text(path.read_text() + "mine, too")
            await put("two\n")
            ours = "<!-- sandbox: begin -->\ntwo\n<!-- sandbox: end -->\n"
            assert path.read_text() == f"mine\n\n{ours}mine, too"
            await put("")
            assert path.read_text() == "mine\n\nmine, too"
            await put("")
            link.symlink_to(path)
            os.mkfifo(pipe)
            long.write_bytes(b"x" * (1 << 20) + b"x")
            for other in (link, pipe, long):
                await put("three\n", other)
            assert "three" not in path.read_text() + long.read_text() and pipe.is_fifo() and link.is_symlink()

    asyncio.run(scenario())


def test_identity_writes_files_whole_and_merges_the_environment(harness: Any, tmp_path: Path) -> None:
    environment = tmp_path / "environment"
    environment.write_text("A=1\nB=2\n")

    async def scenario() -> None:
        async with harness.start_guestd() as process:
            answer = await process.channel.call(
                "identity",
                T,
                entropy=os.urandom(64).hex(),
                environment={"B": "new", "C": "x y"},
                environment_file=str(environment),
                files=[
                    {"path": str(tmp_path / "a" / "b" / "text"), "mode": 0o600, "content": "ü"},
                    {"path": str(tmp_path / "bin"), "mode": "755", "base64": base64.b64encode(b"\xff").decode()},
                    {"path": str(tmp_path / "owned"), "content": "", "owner": f"{os.geteuid()}:{os.getegid()}"},
                ],
            )
            assert answer["time_ns"] > 0
            with pytest.raises(GuestError, match="identity failed in the guest"):
                await process.channel.call("identity", T, files=[{"path": "/proc/nosuch/file", "content": ""}])

    asyncio.run(scenario())
    assert environment.read_text() == "A=1\nB=new\nC=x y\n"
    assert (tmp_path / "a" / "b" / "text").read_text() == "ü"
    assert (tmp_path / "a" / "b" / "text").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "bin").stat().st_mode & 0o777 == 0o755
    assert (tmp_path / "bin").read_bytes() == b"\xff"
    assert not list(tmp_path.rglob("*.new"))


def test_stat(harness: Any, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path)

    async def scenario() -> None:
        async with harness.start_guestd() as process:
            found = {
                name: await process.channel.call("stat", T, path=str(tmp_path / name))
                for name in ("", "file", "link", "none", "file/x")
            }
            assert {name: (stat["kind"], stat["directory"]) for name, stat in found.items()} == {
                "": ("directory", True),
                "file": ("file", False),
                "link": ("symlink", True),
                "none": ("missing", False),
                "file/x": ("missing", False),
            }

    asyncio.run(scenario())


def test_a_mount_that_never_appears_fails_at_its_deadline(harness: Any, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with harness.start_guestd() as process:
            with pytest.raises(GuestError, match=f"cannot mount nosuchtag at {tmp_path}"):
                await process.channel.call("mount", 0.2, tag="nosuchtag", target=str(tmp_path / "mnt"))
            assert (tmp_path / "mnt").is_dir()

    asyncio.run(scenario())


def test_ready_is_told_to_systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.settimeout(T)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        notify_ready()
        assert systemd.recv(100) == b"READY=1"
    notify_ready()  # without systemd: nothing
