"""Making a restored machine its own."""

from __future__ import annotations

import base64
import fcntl
import socket
import struct
import threading
import time

from .accounts import merge_environment
from .certificate import trust_certificate
from .failure import Json
from .files import with_part, write_file
from .freezer import thaw
from .system import read_text

RNDADDENTROPY, RNDRESEEDCRNG = 0x40085203, 0x5207


def set_identity(request: Json, cancelled: threading.Event) -> Json:
    """Make a restored machine its own: entropy first, for all that follows, then clock, names, files, environment.

    {entropy: hex, time_ns, hostname, machine_id, certificate: PEM or null, files: [{path, content or base64, mode,
    owner, part}], environment: {}}; all optional. The environment is merged into /etc/environment, where each exec
    reads it. The certificate takes the place of the one of the snapshot; null removes that, and without the key it
    stays. Of a file with `part`, what was ours is replaced and the rest stays. The programs that were frozen when the
    machine was written go on after all that, also where some of it fails."""
    try:
        return _make_its_own(request)
    finally:
        thaw()


def _make_its_own(request: Json) -> Json:
    if entropy := bytes.fromhex(request.get("entropy") or ""):
        add_entropy(entropy)
    if time_ns := request.get("time_ns"):
        time.clock_settime_ns(time.CLOCK_REALTIME, int(time_ns))
    if hostname := request.get("hostname"):
        socket.sethostname(hostname)
        write_file("/etc/hostname", hostname.encode() + b"\n", 0o644)
    if machine_id := request.get("machine_id"):
        write_file("/etc/machine-id", machine_id.encode() + b"\n", 0o444)
    if "certificate" in request:
        trust_certificate(request["certificate"], request.get("root") or "/")
    for file in request.get("files") or []:
        content = base64.b64decode(file["base64"]) if "base64" in file else str(file.get("content", "")).encode()
        if file.get("part"):
            if (whole := with_part(file["path"], content)) is None:
                continue
            content = whole
        mode = file.get("mode", 0o644)
        write_file(file["path"], content, int(mode, 8) if isinstance(mode, str) else int(mode), file.get("owner"))
    if variables := request.get("environment"):
        lines = [f"{name}={value}" for name, value in variables.items()]
        path = request.get("environment_file") or "/etc/environment"
        write_file(path, merge_environment(read_text(path), lines).encode(errors="surrogateescape"), 0o644)
    return {"time_ns": time.time_ns()}


def add_entropy(entropy: bytes) -> None:
    """Mix in and credit; without the privilege for that, mix in only."""
    with open("/dev/random", "wb", buffering=0) as random:
        try:
            fcntl.ioctl(random, RNDADDENTROPY, struct.pack("ii", len(entropy) * 8, len(entropy)) + entropy)
            fcntl.ioctl(random, RNDRESEEDCRNG)
        except OSError:
            random.write(entropy)
