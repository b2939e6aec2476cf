"""Run in the guest as root, when its own guestd has been stopped: answers in its place as no guestd would.

What it does depends on what it is asked: see `answer`. Before a flood it waits for a word of the host, in the mount.
"""

# ruff: noqa: PTH110, PTH123

from __future__ import annotations

import importlib
import json
import os
import sys
import time
from typing import Any

sys.path.insert(0, "/usr/lib/sandbox")
wire: Any = importlib.import_module("guestd.wire")  # the guest's own
system: Any = importlib.import_module("guestd.system")

FLOOD = 64 << 20
FLOODS = {
    "credit": (wire.CREDIT, 0, b"x" * 65536),
    "empty": (wire.DATA, wire.STDOUT, b""),
    "result": (wire.RESULT, wire.MORE, b""),
    "data": (wire.DATA, wire.STDOUT, b"x" * 65536),
}
port = -1


def send(data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(port, view[:65536]) :]


def flood(frame: bytes) -> None:
    batch = frame * max(1, (1 << 20) // len(frame))
    for _ in range(FLOOD // len(batch) if len(frame) > 100 else 8):
        send(batch)


def result(stream: int, value: object) -> None:
    send(wire.encode_message(stream, wire.RESULT, json.dumps(value).encode()))


def lying_archive() -> bytes:
    """A directory, then the beginning of an old GNU sparse file; `ENDLESS` may follow for ever."""
    import tarfile

    tree = tarfile.TarInfo("d")
    tree.type = tarfile.DIRTYPE
    sparse = tarfile.TarInfo("d/s")
    sparse.type = tarfile.GNUTYPE_SPARSE
    block = bytearray(sparse.tobuf(tarfile.GNU_FORMAT))
    block[386:482] = (b"%011o\0" % 512) * 8
    block[482] = 1
    block[257:265] = b"ustar\00000"  # as if it were of the dialect that is read
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block[:512])
    return tree.tobuf(tarfile.USTAR_FORMAT) + bytes(block)


ENDLESS = ((b"%011o\0" % 512) * 42 + b"\1" + bytes(7)) * 127


def answer(stream: int, op: bytes, request: dict[str, Any]) -> None:
    argv = request.get("argv") or [""]
    if op == b"stat":
        path = request["path"]
        result(stream, {"ok": {} if path == "/shapes" else {"kind": "directory", "directory": True}})
    elif argv[0] == "tar":
        send(wire.encode_frame(stream, wire.DATA, wire.STDOUT, lying_archive()))
        for _ in range(3):  # within the credit; an honest reader of sparse files asks for more
            send(wire.encode_frame(stream, wire.DATA, wire.STDOUT, ENDLESS))
    elif argv[0] in FLOODS:
        open(f"/workspace/asked-{argv[0]}", "w").close()
        while not os.path.exists(f"/workspace/go-{argv[0]}"):
            time.sleep(0.05)
        flood(wire.encode_frame(stream, *FLOODS[argv[0]]))
        flood(wire.encode_frame(77777, *FLOODS[argv[0]]))
    # Everything else, a question whether it is there among it, gets no answer at all.


def main() -> None:
    global port
    port = os.open("/dev/virtio-ports/org.sandbox.agent", os.O_RDWR)
    decoder, requests = wire.Decoder(), {}
    while True:
        for frame in decoder.feed(os.read(port, 1 << 18)):
            if frame.kind == wire.HELLO:
                send(
                    wire.encode_frame(
                        0, wire.HELLO_OK, 0, frame.payload[: wire.NONCE_SIZE] + json.dumps(system.describe()).encode()
                    )
                )
            elif frame.kind == wire.OPEN:
                requests[frame.stream] = requests.get(frame.stream, b"") + frame.payload
                if frame.sub != wire.MORE:
                    op, _, body = requests.pop(frame.stream).partition(b"\n")
                    answer(frame.stream, op, json.loads(body))


main()
