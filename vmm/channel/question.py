"""One question to a relay or to the guest behind it, without asyncio: `ls` asks, and commands that are about to run."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from vmm.channel.conversation import Conversation
from vmm.channel.dial import HELLO_S, READ_SIZE, dial
from vmm.channel.errors import GuestError, restarted
from vmm.guest.guestd.wire import RESTARTED, Decoder


def ask(control: Path, op: str, request: dict[str, Any], timeout_s: float) -> dict[str, Any]:
    """The answer to `op`. Waits `timeout_s` for it, and as long for a hello. Raises GuestError, also for a refusal."""
    decoder, question = Decoder(), Conversation(1)
    with dial(control, decoder, min(HELLO_S, timeout_s)) as connection:
        try:
            give_up = time.monotonic() + timeout_s
            connection.settimeout(timeout_s)
            connection.sendall(question.open(op, request))
            while not question.ended:
                connection.settimeout(max(give_up - time.monotonic(), 0.001))
                data = connection.recv(READ_SIZE)
                for frame in decoder.feed(data):
                    if frame.stream == question.number:
                        question.accept(frame)
                    elif frame.stream == 0 and frame.kind == RESTARTED:
                        question.lose(restarted())
                if not data or decoder.skipped:
                    question.lose(GuestError("the guest is gone"))
        except TimeoutError:
            raise GuestError(f"{op}: no answer from the guest within {timeout_s:g} s") from None
        except OSError as error:
            raise GuestError("the connection to the guest broke", str(error)) from None
    if question.error:
        raise question.error
    return question.result or {}
