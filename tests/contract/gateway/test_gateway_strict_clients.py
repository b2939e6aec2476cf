"""Clients of other makes inside the guest, each as strict as it can be told to be: what they accept, what arrives."""

from __future__ import annotations

import asyncio
import functools
import os
import shutil
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from gateway_world import in_loop
from h2_world import Server
from inside_world import HOST, SECRET_RULE, VALUE, InsideWorld, fields_of, guest_authority, inside_world

from engine.gateway.authority import Authority
from vmm.connection import drop, pump

LONG = f"{'a' * 63}.{'b' * 63}.example.com"
NEWER_PYTHON = "python3.13"  # the first that is strict by default


@asynccontextmanager
async def tcp_port(w: InsideWorld) -> AsyncIterator[int]:
    """A port of the loopback that leads to the gateway: most clients speak to no unix socket."""
    tasks: set[asyncio.Task[None]] = set()

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there_writer = await asyncio.open_unix_connection(str(w.plain.gateway.sockets[443]))
        try:
            await asyncio.gather(pump(reader, there_writer), pump(there_reader, writer), return_exceptions=True)
        finally:
            drop(writer)
            drop(there_writer)

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(relay(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await server.wait_closed()


async def run(argv: list[str], text: bytes = b"", environment: dict[str, str] | None = None) -> tuple[int, str]:
    """The client's status and all that it says."""
    process = await asyncio.create_subprocess_exec(
        *argv,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=environment,
    )
    said, _ = await process.communicate(text)
    return process.returncode or 0, said.decode(errors="replace")


def needs(program: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(shutil.which(program) is None, reason=f"no {program} here")


REQUEST = f"GET /x HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n"

PYTHON = """
import socket, ssl, sys
file, port, name = sys.argv[1:]
context = ssl.create_default_context(cafile=file)
context.verify_flags |= ssl.VERIFY_X509_STRICT | ssl.VERIFY_X509_PARTIAL_CHAIN
with context.wrap_socket(socket.create_connection(("127.0.0.1", int(port))), server_hostname=name) as tls:
    tls.sendall(f"GET /x HTTP/1.1\\r\\nHost: {name}\\r\\nConnection: close\\r\\n\\r\\n".encode())
    while data := tls.recv(65536):
        print(data.decode(), end="")
"""

NODE = """
const https = require("https");
const [port, name] = process.argv.slice(1);
const options = {host: "127.0.0.1", port, servername: name, path: "/x", headers: {host: name}, agent: false};
https.get(options, (answer) => { answer.on("data", (data) => process.stdout.write(data)); });
"""

NODE_H2 = """
const http2 = require("http2"), tls = require("tls");
const [port, name] = process.argv.slice(1);
const createConnection = () => tls.connect({host: "127.0.0.1", port, servername: name, ALPNProtocols: ["h2"]});
const session = http2.connect(`https://${name}`, {createConnection});
const stream = session.request({":path": "/x"});
stream.on("data", (data) => process.stdout.write(data));
stream.on("end", () => session.close());
"""

JAVA = """
import java.io.*; import java.net.*; import java.nio.file.*; import java.security.*; import java.security.cert.*;
import javax.net.ssl.*;
public class Client {
    public static void main(String[] words) throws Exception {
        KeyStore store = KeyStore.getInstance(KeyStore.getDefaultType());
        store.load(null, null);
        try (InputStream in = new FileInputStream(words[0])) {
            store.setCertificateEntry("ours", CertificateFactory.getInstance("X.509").generateCertificate(in));
        }
        TrustManagerFactory trust = TrustManagerFactory.getInstance(TrustManagerFactory.getDefaultAlgorithm());
        trust.init(store);
        SSLContext context = SSLContext.getInstance("TLS");
        context.init(null, trust.getTrustManagers(), null);
        Socket below = new Socket("127.0.0.1", Integer.parseInt(words[1]));
        SSLSocket tls = (SSLSocket) context.getSocketFactory().createSocket(below, words[2], 443, true);
        SSLParameters parameters = tls.getSSLParameters();
        parameters.setEndpointIdentificationAlgorithm("HTTPS");
        tls.setSSLParameters(parameters);
        String head = "GET /x HTTP/1.1\\r\\nHost: " + words[2] + "\\r\\nConnection: close\\r\\n\\r\\n";
        tls.getOutputStream().write(head.getBytes());
        tls.getInputStream().transferTo(System.out);
    }
}
"""


def openssl(file: Path, port: int, name: str) -> list[str]:
    strict = ["-x509_strict", "-verify_return_error", "-verify_hostname", name, "-purpose", "sslserver"]
    return ["openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-servername", name, "-CAfile", str(file), *strict,
            "-quiet"]  # fmt: skip


def curl(file: Path, port: int, name: str) -> list[str]:
    return ["curl", "-sS", "--http1.1", "--cacert", str(file), "--connect-to", f"{name}:443:127.0.0.1:{port}",
            f"https://{name}/x"]  # fmt: skip


def curl_h2(file: Path, port: int, name: str) -> list[str]:
    return ["--http2" if word == "--http1.1" else word for word in curl(file, port, name)]


def gnutls(file: Path, port: int, name: str) -> list[str]:
    return ["gnutls-cli", "--x509cafile", str(file), "--sni-hostname", name, "--verify-hostname", name,
            "-p", str(port), "127.0.0.1"]  # fmt: skip


def python(file: Path, port: int, name: str) -> list[str]:
    return [NEWER_PYTHON if works(NEWER_PYTHON) else sys.executable, "-c", PYTHON, str(file), str(port), name]


@functools.cache
def works(program: str) -> bool:
    return shutil.which(program) is not None and not subprocess.run([program, "-c", ""], capture_output=True).returncode


def node(file: Path, port: int, name: str) -> list[str]:
    return ["node", "-e", NODE, str(port), name]


def node_h2(file: Path, port: int, name: str) -> list[str]:
    return ["node", "-e", NODE_H2, str(port), name]


def java(file: Path, port: int, name: str) -> list[str]:
    source = file.with_name("Client.java")
    source.write_text(JAVA)
    return ["java", str(source), str(file), str(port), name]


Client = Callable[[Path, int, str], list[str]]
CLIENTS = [
    pytest.param(openssl, "h1", marks=needs("openssl"), id="openssl"),
    pytest.param(gnutls, "h1", marks=needs("gnutls-cli"), id="GnuTLS"),
    pytest.param(curl, "h1", marks=needs("curl"), id="curl"),
    pytest.param(curl_h2, "h2", marks=needs("curl"), id="curl, HTTP/2"),
    pytest.param(python, "h1", id="Python"),
    pytest.param(node, "h1", marks=needs("node"), id="Node"),
    pytest.param(node_h2, "h2", marks=needs("node"), id="Node, HTTP/2"),
    pytest.param(java, "h1", marks=needs("java"), id="Java"),
]


@pytest.mark.parametrize("trusts", [True, False], ids=["trusts us", "does not"])
@pytest.mark.parametrize(("client", "protocol"), CLIENTS)
def test_a_strict_client(client: Client, protocol: str, trusts: bool, tmp_path: Path) -> None:
    """It gets its answer, and the server the credential; without our certificate it asks nothing at all."""
    file = tmp_path / "ca.pem"
    file.write_text((guest_authority() if trusts else Authority.create("another")).certificate)

    async def scenario() -> None:
        server = Server()
        handler, alpn = (server.serve, "h2") if protocol == "h2" else (None, "http/1.1")
        async with inside_world(SECRET_RULE, handler=handler, alpn=alpn) as w:
            async with tcp_port(w) as port:
                environment = {**os.environ, "NODE_EXTRA_CA_CERTS": str(file)}
                for name in ("SSL_CERT_FILE", "SSL_CERT_DIR"):  # of the host, not of the client
                    environment.pop(name, None)
                status, said = await run(client(file, port, HOST), REQUEST.encode(), environment)
            await w.quiet()
            got = [fields_of(head) for head in w.recorder.heads] + [
                {name: [value] for name, value in each.headers} for each in server.requests
            ]
        if trusts:
            assert said.rstrip().endswith("/x"), said
            assert [fields["authorization"] for fields in got] == [[f"Bearer {VALUE}"]]
        else:
            assert (status != 0 and "certificate" in said.lower()) or "PKIX" in said or "verify" in said, said
            assert got == [] and w.recorder.everything == b""

    in_loop(scenario())


@needs("openssl")
@pytest.mark.parametrize(
    ("hours", "accepted"), [(0, True), (-47, True), (-49, False), (29 * 24, True), (31 * 24, False)]
)
def test_a_guest_whose_clock_is_off(hours: int, accepted: bool, tmp_path: Path) -> None:
    file = tmp_path / "ca.pem"
    file.write_text(guest_authority().certificate)

    async def scenario() -> None:
        async with inside_world(SECRET_RULE) as w:
            async with tcp_port(w) as port:
                argv = [*openssl(file, port, HOST), "-attime", str(int(time.time()) + hours * 3600)]
                _, said = await run(argv, REQUEST.encode())
            await w.quiet()
        assert said.rstrip().endswith("/x") is accepted, said
        assert len(w.recorder.heads) == accepted

    in_loop(scenario())


@needs("openssl")
def test_one_certificate_is_for_one_name(tmp_path: Path) -> None:
    """So no client reuses a connection for another host: the leaf has the one name, and no wildcard."""
    file = tmp_path / "ca.pem"
    file.write_text(guest_authority().certificate)

    async def scenario() -> None:
        async with inside_world(SECRET_RULE, replace(SECRET_RULE, host=LONG)) as w:
            async with tcp_port(w) as port:
                argv = [word for word in openssl(file, port, LONG) if word != "-quiet"]
                _, said = await run([*argv, "-showcerts"], b"Q\n")
                leaf = said[said.index("-----BEGIN") :].partition("-----END CERTIFICATE-----")
                _, about = await run(
                    ["openssl", "x509", "-noout", "-ext", "subjectAltName"], "".join(leaf[:2]).encode()
                )
            await w.quiet()
        assert [part.strip() for part in about.split("\n")[1:] if part] == [f"DNS:{LONG}"]

    in_loop(scenario())
