"""What a guest says on the wire to a client of the supervisor: the relay is in between."""

from __future__ import annotations

from typing import Any, cast

from guest_frames import ONE, TAKE, Act, Host, slow_frames, steps

from vmm.channel.conduct import ANSWER_LIMIT
from vmm.channel.relay import Client, Passage
from vmm.guest.guestd.wire import CLOSE, DATA, MAX_PAYLOAD, RESULT, WINDOW, Frame


class _Client(Client):
    """A client that reads when it is told to: its writer is full until then."""

    def __init__(self) -> None:
        super().__init__(cast(Any, None), cast(Any, self))
        self.wire, self.unread = b"", 0
        self.transport = self

    def get_write_buffer_size(self) -> int:
        return self.unread

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return 0, MAX_PAYLOAD

    def is_closing(self) -> bool:
        return False

    def write(self, data: bytes) -> None:
        self.wire += data
        self.unread += len(data)

    def offer(self, passage: Passage) -> None:
        self._waiting[passage] = None
        self._send()

    def read(self, *, late: bool) -> bytes:
        """All that was written; `late`: nobody has noticed yet that there is room."""
        wire, self.wire, self.unread = self.wire, b"", 0
        if not late:
            self._send()
        return wire


class _Guest:
    """The relay's side of the guest: one stream, and what was written to it."""

    def __init__(self) -> None:
        self.attached = 0
        self.wire = b""

    def attach(self, sink: object) -> int:
        self.attached += 1
        return ONE

    def detach(self, number: int) -> None:
        self.attached -= 1

    def write(self, wire: bytes) -> None:
        self.wire += wire


def relay(data: bytes) -> None:
    """What comes through the relay is lawful, whatever the guest says; the relay holds a window, and an answer."""
    guest, client, host = _Guest(), _Client(), Host()
    passage = Passage(client, ONE, cast(Any, guest))
    client.streams[ONE] = passage
    came = {0: b"", 1: b"", 2: b""}

    def pass_on(late: bool) -> None:
        told = len(host.told)
        while wire := client.read(late=late):
            for _, frame in slow_frames(wire):
                host.hear(frame)
                error = host.conversation.error
                assert frame.kind == RESULT or not error or any(one.kind == CLOSE for one in host.told), "unlawful"
        host.act(Act(TAKE))
        for frame in host.told[told:]:
            answer(frame)

    def answer(frame: Frame) -> None:
        if ONE in client.streams:
            passage.to_answerer(frame)

    for step in (*steps(data[1:]), Act(TAKE), Act(TAKE)):
        if isinstance(step, Act):
            told = len(host.told)
            if step.kind != TAKE:
                host.act(step)
            for frame in host.told[told:]:
                answer(frame)
            if step.kind == TAKE:
                pass_on(late=step.size % 2000 != 0)
            continue
        for _, frame in slow_frames(step):
            if frame.stream != ONE or not guest.attached:
                continue
            passage.accept(frame)
            if frame.kind == DATA and guest.attached:
                came[frame.sub] += frame.payload
            held = passage.held + len(client.wire)
            assert held <= WINDOW + 2 * ANSWER_LIMIT, "the relay holds more than a window and an answer"
            assert guest.attached in (0, 1) and bool(guest.attached) is (ONE in client.streams)
    one = host.conversation
    assert one.ended or guest.attached, "its client waits for ever"
    ended_here = any(frame.kind == CLOSE for frame in host.told)
    assert ended_here or host.came == came, "bytes are lost on the way"
