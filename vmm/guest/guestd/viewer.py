"""A client of the host that looks at a session: what it has seen of it, and its credit."""

from __future__ import annotations

from .command import Loop
from .failure import Failure, Json, error_of
from .modes import Modes
from .session import Session
from .wire import (
    CLOSE,
    CONTROL,
    CREDIT,
    DATA,
    MAX_PAYLOAD,
    STDERR,
    STDOUT,
    Frame,
    ReceiveWindow,
    SendWindow,
    credit_of,
    decode_object,
)

# Whoever was left behind may be in the middle of a sequence, or of a string: both end here.
_AFRESH = b"\x18\x1b\\\x1b[0m"


class Viewer:
    """A stream: DATA both ways; CONTROL tells of its size, or asks for the screen; CLOSE leaves. The RESULT is the
    program's, when that has ended.
    """

    def __init__(self, loop: Loop, stream: int, session: Session, request: Json) -> None:
        self.silent = False
        self.stalled = False
        self.read_only = bool(request.get("read_only"))
        self.size = _size(request.get("rows"), request.get("cols"))
        self.place = session.history.end  # up to which it has been sent what the program printed
        self._behind = False
        self._loop, self._stream, self._session = loop, stream, session
        self._modes = Modes()  # of its terminal
        self._sending = SendWindow()
        self._receiving = ReceiveWindow()

    def accept(self, frame: Frame) -> None:
        if frame.kind == DATA:
            self._take_keys(frame.payload)
        elif frame.kind == CREDIT:
            self._sending.grant(credit_of(frame))
            self.pump()
            self._session.read_on()
        elif frame.kind == CONTROL:
            self._control(decode_object(frame.payload))
        elif frame.kind == CLOSE:
            self.close()

    def close(self) -> None:
        """It leaves; the program goes on."""
        self._conclude({"ok": {}})

    def _control(self, request: Json) -> None:
        if "resize" in request:
            self.size = _size(*request["resize"])
            if not self.read_only:
                self._session.activate(self)
        if request.get("repaint"):
            self._behind = True
            self.pump()

    def _take_keys(self, data: bytes) -> None:
        try:
            self._receiving.arrive(len(data))
        except ValueError as error:
            self._conclude(error_of(Failure(f"input: {error}")))
            return
        if self.read_only:
            self.typed(len(data), now=True)
        else:
            self._session.type(self, data)

    def typed(self, size: int, *, now: bool) -> None:
        """The program's terminal has taken so many bytes of its keys."""
        credit = self._receiving.consume(size, now=now)
        if credit and not self.silent:
            self._loop.send_credit(self._stream, credit)

    def pump(self) -> None:
        """Send what it has credit for, and at the end the result."""
        session, history = self._session, self._session.history
        if session.words:
            self._loop.send(self._stream, DATA, STDERR, session.words.encode(errors="replace")[:4096])
        while not self.silent and (self.place < history.end or self._behind) and self._sending.room:
            if self._behind or self.place < history.start:
                self._behind = True
                if self._sending.room < MAX_PAYLOAD:
                    return  # it has not even read what it was sent
                self.repaint()
                session.nudge()
            else:
                data = history.read(self.place, self._sending.room)
                self.place += len(data)
                self._send(data)
        if session.result is not None and self.place == history.end and not self._behind:
            self._conclude(session.result)

    def repaint(self) -> None:
        """What a terminal needs that has seen nothing so far, or no more than a part: at most one payload."""
        session = self._session
        words = _AFRESH + self._modes.off() + b"\r\n" if self._behind else b""
        if not session.modes.is_alternate:
            words += session.history.replay()
        self.place, self._behind = session.history.end, False
        if words := words + session.modes.on():
            self._send(words)

    def _send(self, data: bytes) -> None:
        self.stalled = False
        self._sending.spend(len(data))
        self._modes.saw(data)
        self._loop.send(self._stream, DATA, STDOUT, data)

    def _conclude(self, result: Json) -> None:
        if self in self._session.viewers:
            self._session.leave(self)
        if not self.silent:
            self.silent = True
            del self._loop.streams[self._stream]
            self._loop.send_result(self._stream, result)


def _size(rows: object, cols: object) -> tuple[int, int]:
    numbers = [value if isinstance(value, int) and 0 < value < 1 << 16 else 0 for value in (rows, cols)]
    return numbers[0] or 24, numbers[1] or 80
