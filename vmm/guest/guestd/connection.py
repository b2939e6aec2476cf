"""One connection of the host to a port of this machine: its socket and its credit."""

from __future__ import annotations

import contextlib
import errno
import os
import select
import socket
import struct

from .command import Loop
from .failure import Failure, Json, error_of
from .wire import (
    CLOSE,
    CREDIT,
    DATA,
    EOF,
    MAX_PAYLOAD,
    STDOUT,
    Frame,
    ReceiveWindow,
    SendWindow,
    credit_of,
)

# What programs in the guest listen on, in the order in which it is tried. Many listen for this machine alone.
PLACES = ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1"))
RESET = struct.pack("ii", 1, 0)  # of SO_LINGER: closing tells the peer that the connection broke


class Connection:
    """A stream to whoever listens on `port` of the request: DATA and EOF both ways, at the end a result.

    Each direction ends by itself. A server that refuses, or breaks the connection, is a failed result.
    """

    def __init__(self, loop: Loop, stream: int, request: Json) -> None:
        self.silent = False
        self._loop, self._stream = loop, stream
        self._port = _port_of(request)
        self._places = list(PLACES)
        self._socket: socket.socket | None = None
        self._connected = False
        self._sending = SendWindow()
        self._receiving = ReceiveWindow()
        self._input = bytearray()
        self._input_watched = False
        self._eof = False  # the host has said all
        self._told = False  # and the server has been told so, or listens no more
        self._heard = False  # the server has said all

    def start(self) -> None:
        """Connect; the loop knows the stream by now."""
        self._connect()

    def accept(self, frame: Frame) -> None:
        if frame.kind == DATA:
            self._take_input(frame.payload)
        elif frame.kind == EOF:
            self._eof = True
            self._write()
        elif frame.kind == CREDIT:
            self._sending.grant(credit_of(frame))
            self._read_on()
        elif frame.kind == CLOSE:
            self.close()

    def close(self) -> None:
        """The host wants no more of it, so the server is told that the connection broke."""
        self._fail(Failure("the connection was closed"))

    # connecting

    def _connect(self) -> None:
        """Try the next place; the last refusal is the answer."""
        refused = errno.ECONNREFUSED
        while self._places:
            family, address = self._places.pop(0)
            try:
                made = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
            except OSError as error:  # no IPv6 here
                refused = error.errno or refused
                continue
            self._socket = made
            refused = made.connect_ex((address, self._port))
            if refused in (0, errno.EINPROGRESS):
                self._watch(select.EPOLLOUT)
                return
            self._drop_socket()
        self._fail(Failure(f"nobody listens on port {self._port} in this machine", os.strerror(refused)))

    def _ready(self, events: int) -> None:
        if self._connected:
            self._write()
            return
        assert self._socket
        self._unwatch()
        if self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            self._drop_socket()
            self._connect()
            return
        self._connected = True
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # whoever sends chose its chunks already
        self._read_on()
        self._write()

    # towards the server

    def _take_input(self, data: bytes) -> None:
        try:
            self._receiving.arrive(len(data))
        except ValueError as error:
            self._fail(Failure(f"input: {error}"))
            return
        self._input += data
        self._write()

    def _write(self) -> None:
        if not self._connected or not self._socket:
            return
        had = len(self._input)
        try:
            while self._input and not self._told:
                with memoryview(self._input) as view:
                    count = self._socket.send(view[:MAX_PAYLOAD])
                del self._input[:count]
        except BlockingIOError:
            pass
        except OSError as error:
            if self._heard:
                self._fail(_broken(error))
                return
            self._told = True  # it listens no more, but what it said before that is still to be read
        if self._told:
            self._input.clear()  # swallow the rest, so that the sender does not wait for credit
        if not self._eof and (credit := self._receiving.consume(had - len(self._input), now=not self._input)):
            self._loop.send_credit(self._stream, credit)
        if self._input:
            self._watch(select.EPOLLOUT)
        else:
            self._unwatch()
        if self._eof and not self._input:
            self._end_input()

    def _end_input(self) -> None:
        if not self._told:
            self._told = True
            assert self._socket
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_WR)
        self._finish_if_done()

    # from the server

    def _read_on(self) -> None:
        if self._connected and self._socket and self._sending.room and not self._heard:
            self._loop.watch_output(self._socket.fileno(), lambda _: self._read())

    def _read(self) -> None:
        assert self._socket
        if not self._sending.room:
            self._loop.unwatch_output(self._socket.fileno())
            return
        try:
            data = self._socket.recv(self._sending.room)
        except BlockingIOError:
            return
        except OSError as error:
            self._fail(_broken(error))
            return
        if data:
            self._sending.spend(len(data))
            self._loop.send(self._stream, DATA, STDOUT, data)
            return
        self._heard = True
        self._loop.unwatch_output(self._socket.fileno())
        self._loop.send(self._stream, EOF)
        self._finish_if_done()

    # the end

    def _finish_if_done(self) -> None:
        if self._heard and self._told and self._eof:
            self._drop_socket()
            self._result({"ok": {}})

    def _fail(self, failure: Failure) -> None:
        if self._socket:
            with contextlib.suppress(OSError):
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            self._drop_socket()
        self._result(error_of(failure))

    def _drop_socket(self) -> None:
        assert self._socket
        self._unwatch()
        self._loop.unwatch_output(self._socket.fileno())
        self._socket.close()
        self._socket = None

    def _watch(self, events: int) -> None:
        if not self._input_watched:
            assert self._socket
            self._input_watched = True
            self._loop.watch(self._socket.fileno(), events, self._ready)

    def _unwatch(self) -> None:
        if self._input_watched:
            assert self._socket
            self._input_watched = False
            self._loop.unwatch(self._socket.fileno())

    def _result(self, result: Json) -> None:
        if not self.silent:
            self.silent = True
            del self._loop.streams[self._stream]
            self._loop.send_result(self._stream, result)


def _port_of(request: Json) -> int:
    port = request.get("port")
    if not isinstance(port, int) or not 0 < port < 1 << 16:
        raise Failure(f"no port: {port!r}")
    return port


def _broken(error: OSError) -> Failure:
    return Failure("the connection broke", error.strerror or "")
