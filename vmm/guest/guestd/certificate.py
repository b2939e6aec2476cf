"""The certificate of the sandbox's own CA: trusted in this machine and in the containers of its Docker.

While there is one, TRUST holds it, and /usr/local/sbin/runc gives it to each container that starts.
"""

from __future__ import annotations

import _ssl
import contextlib
import ctypes
import os
import shutil
import ssl
import subprocess
from collections.abc import Iterator

from .files import write_file
from .javastore import change_java_store, make_java_store

NAME = "sandbox"
LOCAL = f"usr/local/share/ca-certificates/{NAME}.crt"  # where update-ca-certificates finds it again
STORE = "etc/ssl/certs"
BUNDLE = f"{STORE}/ca-certificates.crt"
JAVA_STORE, JAVA_ALIAS = f"{STORE}/java/cacerts", f"debian:{NAME}.pem"  # as Debian's ca-certificates-java has it
TRUST = "etc/sandbox/trust"
TASKS = "run/containerd/io.containerd.runtime.v2.task/moby"  # a directory for each running container
DOCKERD_STORE = "run/sandbox/dockerd.crt"  # a link, by which dockerd finds BUNDLE
DOCKERD_RESTART_S = 120.0


def trust_certificate(pem: str | None, root: str = "/") -> None:
    """Trust this certificate (PEM) in the place of the one before; None: trust none any more.

    Containers that run see the new one in their files; with None they keep what they have.
    """
    at = _Paths(root)
    new = pem.strip().encode() + b"\n" if pem else b""
    old, bundle = read_bytes(at(LOCAL)), read_bytes(at(BUNDLE))
    if new == old and new in bundle:
        return
    name = subject_hash(to_der(new)) if new else ""  # before anything is changed: it raises for what is no certificate
    bundle = exchange(bundle, old, new)
    write_file(at(BUNDLE), bundle, 0o644)
    link_in_store(at, new, name)
    if store := read_bytes(at(JAVA_STORE)):
        write_file(at(JAVA_STORE), change_java_store(store, JAVA_ALIAS, to_der(new) if new else None), 0o644)
    if not new:
        shutil.rmtree(at(TRUST), ignore_errors=True)
        return
    java = make_java_store([to_der(text) for text in split(bundle)])
    write_file(at(f"{TRUST}/cacerts"), java, 0o644)
    for directory in containers(at):
        renew(directory, old, new, java)
    write_file(at(f"{TRUST}/ca.crt"), new, 0o644)  # the last: from now on containers get it
    renew_dockerd(root, wait=False)


class _Paths:
    def __init__(self, root: str) -> None:
        self._root = root

    def __call__(self, name: str) -> str:
        return os.path.join(self._root, name)


def read_bytes(path: str) -> bytes:
    """The whole file; nothing when it does not exist."""
    try:
        with open(path, "rb") as file:
            return file.read()
    except FileNotFoundError:
        return b""


def exchange(bundle: bytes, old: bytes, new: bytes) -> bytes:
    """The bundle with `new` at its end and without `old`."""
    rest = bundle.replace(old, b"") if old else bundle
    if new and rest and not rest.endswith(b"\n"):
        rest += b"\n"
    return rest + new


def split(bundle: bytes) -> Iterator[bytes]:
    """Each certificate of a bundle, as PEM."""
    end = b"-----END CERTIFICATE-----"
    for text in bundle.split(b"-----BEGIN CERTIFICATE-----")[1:]:
        body, found, _ = text.partition(end)
        if found:
            yield b"-----BEGIN CERTIFICATE-----" + body + end


def to_der(pem: bytes) -> bytes:
    return ssl.PEM_cert_to_DER_cert(pem.decode("ascii"))


def subject_hash(der: bytes) -> str:
    """The name by which OpenSSL looks for the certificate in a directory, without `.0`."""
    crypto = ctypes.CDLL(_ssl.__file__)  # brings the libcrypto that Python itself uses
    crypto.d2i_X509.restype = ctypes.c_void_p
    crypto.X509_subject_name_hash.restype = ctypes.c_ulong
    start = ctypes.c_char_p(der)
    certificate = ctypes.c_void_p(crypto.d2i_X509(None, ctypes.byref(start), ctypes.c_long(len(der))))
    if not certificate:
        raise ValueError("this is no certificate")
    try:
        return f"{crypto.X509_subject_name_hash(certificate):08x}"
    finally:
        crypto.X509_free(certificate)


def link_in_store(at: _Paths, new: bytes, name: str) -> None:
    """What update-ca-certificates would leave for it (`name`: its subject's hash), and nothing for the one before."""
    store, pem = at(STORE), f"{NAME}.pem"
    os.makedirs(store, exist_ok=True)
    for entry in os.scandir(store):
        if entry.is_symlink() and (entry.name == pem or os.readlink(entry.path) == pem):
            os.unlink(entry.path)
    if not new:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(at(LOCAL))
        return
    write_file(at(LOCAL), new, 0o644)
    os.symlink(f"/{LOCAL}", os.path.join(store, pem))
    number = 0
    while os.path.lexists(os.path.join(store, f"{name}.{number}")):
        number += 1
    os.symlink(pem, os.path.join(store, f"{name}.{number}"))


def containers(at: _Paths) -> list[str]:
    """What /usr/local/sbin/runc made for the containers that run now: their /dev/sandbox, as this machine sees it."""
    try:
        tasks = os.listdir(at(TASKS))
    except FileNotFoundError:
        return []
    return [path for task in tasks if os.path.isdir(path := os.path.join(at(TASKS), task, NAME))]


def renew(directory: str, old: bytes, new: bytes, java: bytes) -> None:
    """Give a running container the new certificate."""
    bundle = os.path.join(directory, "ca-certificates.crt")
    before = read_bytes(bundle)
    found = before.find(old) if old else -1
    # In place, as the file may be mounted as such, and then another would not be seen. All before ours stays.
    with open(bundle, "r+b") as file:
        file.seek(found if found >= 0 else len(before))
        file.write(exchange(before, old, new)[file.tell() :])
        file.truncate()
    write_file(os.path.join(directory, "ca.crt"), new, 0o644)
    if os.path.exists(store := os.path.join(directory, "cacerts")):
        write_file(store, java, 0o644)


def renew_dockerd(root: str = "/", *, wait: bool) -> None:
    """Restart dockerd if it has read the trusted certificates, which a Go program does once, and no container runs.

    It reads them at its first pull. With `wait` this returns when it answers again, or after DOCKERD_RESTART_S.
    """
    at = _Paths(root)
    try:
        link = os.lstat(at(DOCKERD_STORE))
        running = os.path.isdir(at(TASKS)) and os.listdir(at(TASKS))
    except FileNotFoundError:
        return
    if link.st_atime_ns > link.st_mtime_ns and os.path.exists(at(f"{TRUST}/ca.crt")) and not running:
        argv = ["systemctl", "restart", *([] if wait else ["--no-block"]), "docker.service"]
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            subprocess.run(argv, capture_output=True, timeout=DOCKERD_RESTART_S)
