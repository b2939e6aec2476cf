from __future__ import annotations

import os
import shutil
import ssl
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtensionOID

from engine.gateway import authority
from engine.gateway.authority import Authority


def shake_hands(server: ssl.SSLContext, trusted: str, name: str, *, verify: bool = True) -> bytes:
    """The certificate that a strict client accepts, as DER."""
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = verify
    client.verify_mode = ssl.CERT_REQUIRED if verify else ssl.CERT_NONE
    client.verify_flags |= ssl.VERIFY_X509_STRICT
    client.load_verify_locations(cadata=trusted)
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    ours = client.wrap_bio(back, there, server_hostname=name)
    theirs = server.wrap_bio(there, back, server_side=True)
    for _ in range(4):
        for side in (ours, theirs):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
    found = ours.getpeercert(binary_form=True)
    assert found is not None
    return found


@pytest.mark.parametrize(
    "host", ["a.example", "under_score.example.com", f"{'a' * 63}.{'b' * 63}.{'c' * 63}.example.com"]
)
def test_a_strict_client_accepts_the_certificate_for_this_name_alone(host: str) -> None:
    ours = Authority.create("shop")
    leaf = x509.load_der_x509_certificate(shake_hands(ours.context(host, None), ours.certificate, host))
    names = leaf.extensions.get_extension_for_oid(ExtensionOID.SUBJECT_ALTERNATIVE_NAME)
    assert names.critical and names.value.get_values_for_type(x509.DNSName) == [host]  # type: ignore[attr-defined]
    assert len(leaf.subject) == 0
    assert leaf.not_valid_before_utc < datetime.now(UTC) - timedelta(days=1, hours=23)
    assert timedelta(days=29) < leaf.not_valid_after_utc - datetime.now(UTC) < timedelta(days=31)
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(ours.context(host, None), ours.certificate, "b.example")
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(ours.context(host, None), Authority.create("shop").certificate, host)


def test_the_authority_may_sign_servers_and_nothing_below_it() -> None:
    certificate = x509.load_pem_x509_certificate(Authority.create("s" * 100).certificate.encode())
    constraints = certificate.extensions.get_extension_for_oid(ExtensionOID.BASIC_CONSTRAINTS)
    assert constraints.critical and constraints.value == x509.BasicConstraints(ca=True, path_length=0)
    usage = certificate.extensions.get_extension_for_class(x509.KeyUsage)
    assert usage.critical and usage.value.key_cert_sign and not usage.value.digital_signature
    assert certificate.subject.rfc4514_string() == f"CN=sandbox {'s' * 53}..."


def test_contexts_are_kept_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    ours = Authority.create("shop")
    first = ours.context("a.example", "h2")
    assert ours.context("a.example", "h2") is first
    assert ours.context("a.example", None) is not first
    monkeypatch.setattr(authority, "_MOST_CONTEXTS", 2)
    ours.context("b.example", None)  # the oldest gives way
    assert ours.context("a.example", "h2") is not first
    kept = ours.context("a.example", "h2")
    for days in (16, -3):  # a machine that slept, a clock that was set back
        jump_clock(monkeypatch, days * 86400)
        assert ours.context("a.example", "h2") is not kept
        monkeypatch.undo()


def jump_clock(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    now = time.time()
    monkeypatch.setattr(authority.time, "time", lambda: now + seconds)


def test_a_leaf_is_valid_after_a_clock_has_jumped(monkeypatch: pytest.MonkeyPatch) -> None:
    ours = Authority.create("shop")
    ours.context("a.example", None)
    jump_clock(monkeypatch, 40 * 86400)
    found = shake_hands(ours.context("a.example", None), ours.certificate, "a.example", verify=False)
    monkeypatch.undo()
    leaf = x509.load_der_x509_certificate(found)
    later = datetime.now(UTC) + timedelta(days=40)
    assert leaf.not_valid_before_utc < later < leaf.not_valid_after_utc


def test_no_key_is_left_on_any_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    before = len(list(Path("/proc/self/fd").iterdir()))
    ours = Authority.create("shop")
    ours.context("a.example", None)
    if hasattr(os, "memfd_create"):
        monkeypatch.delattr(os, "memfd_create")
    ours.context("b.example", None)  # as on systems that have no such files
    assert list(scratch.iterdir()) == []
    assert len(list(Path("/proc/self/fd").iterdir())) == before


@pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl here")
def test_openssl_itself_is_content(tmp_path: Path) -> None:
    ours = Authority.create("shop")
    (tmp_path / "ca.pem").write_text(ours.certificate)
    der = shake_hands(ours.context("a.example", None), ours.certificate, "a.example")
    (tmp_path / "leaf.pem").write_text(ssl.DER_cert_to_PEM_cert(der))
    argv = ["openssl", "verify", "-x509_strict", "-purpose", "sslserver", "-verify_hostname", "a.example"]
    result = subprocess.run(
        [*argv, "-CAfile", tmp_path / "ca.pem", tmp_path / "leaf.pem"], capture_output=True, text=True
    )
    assert result.returncode == 0, result.stdout + result.stderr


def test_a_supervisor_whose_gateway_looks_into_nothing_loads_nothing_of_this() -> None:
    code = """
import asyncio, sys, tempfile, pathlib
import engine.supervisor.__main__
from engine.gateway.journal import Journal
from engine.gateway.policy import Policy
from engine.gateway.rules import Rule
from engine.gateway.server import start_gateway
async def run(directory):
    with Journal(directory / "journal") as journal:
        async with start_gateway(Policy([Rule("a.example")]), directory, journal) as gateway:
            reader, writer = await asyncio.open_unix_connection(str(gateway.sockets[80]))
            writer.write(b"GET / HTTP/1.1\\r\\nHost: b.example\\r\\n\\r\\n")
            assert b"403" in await reader.read(-1)
            writer.close()
with tempfile.TemporaryDirectory() as directory:
    asyncio.run(run(pathlib.Path(directory)))
ours = {f"engine.gateway.{name}" for name in ("authority", "interception", "outer", "tlsio")}
heavy = {"cryptography", "h2", "hpack"} | ours
print(sorted(heavy & set(sys.modules)))
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (result.stdout, result.stderr) == ("[]\n", "")
