"""Reaching a relay without asyncio: a connected socket that has said hello."""

from __future__ import annotations

import os
import socket
import time

from vmm.channel.errors import GuestError
from vmm.channel.greeting import read_hello
from vmm.guest.guestd.wire import HELLO, HELLO_OK, NONCE_SIZE, Decoder, encode_frame

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pathlib import Path

HELLO_S = 5.0
READ_SIZE = 1 << 18


def dial(control: Path | str, decoder: Decoder, hello_s: float = HELLO_S) -> socket.socket:
    """A connection to the relay at `control`, not blocking; whatever comes next goes to `decoder`.

    Waits up to `hello_s` for its hello; raises GuestError when nobody answers there.
    """
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.settimeout(hello_s)
        try:
            connection.connect(os.fspath(control))
        except OSError as error:
            raise GuestError(
                "the sandbox's supervisor does not answer",
                f"{control}: {error.strerror or error}",
                "`sandbox ls` shows what runs",
            ) from None
        _greet(connection, decoder, hello_s)
        connection.setblocking(False)
    except BaseException:
        connection.close()
        raise
    return connection


def _greet(connection: socket.socket, decoder: Decoder, hello_s: float) -> None:
    nonce = os.urandom(NONCE_SIZE)
    decoder.expect(nonce)
    give_up = time.monotonic() + hello_s
    try:
        connection.sendall(encode_frame(0, HELLO, 0, nonce))
        while (left := give_up - time.monotonic()) > 0:
            connection.settimeout(left)
            data = connection.recv(READ_SIZE)
            for frame in decoder.feed(data):
                if frame.stream == 0 and frame.kind == HELLO_OK:
                    read_hello(frame.payload[NONCE_SIZE:])
                    return
            if not data:
                raise GuestError("the guest is gone")
    except TimeoutError:
        pass
    except OSError as error:
        raise GuestError("the connection to the guest broke", str(error)) from None
    raise GuestError(f"the guest did not answer within {hello_s:g} s")
