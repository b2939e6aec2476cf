"""The first words on a connection: who answers, and whether it speaks our protocol."""

from __future__ import annotations

from vmm.channel.answers import read
from vmm.channel.errors import GuestError
from vmm.guest.guestd.wire import PROTOCOL, decode_object

__all__ = ["Hello", "read_hello"]


class Hello:
    """Who answers. `boot_id` differs after a reboot, not after a restore."""

    def __init__(self, version: str, protocol: int, boot_id: str, kernel: str, hostname: str) -> None:
        self.version = version
        self.protocol = protocol
        self.boot_id = boot_id
        self.kernel = kernel
        self.hostname = hostname


def read_hello(payload: bytes) -> Hello:
    """The answer to a HELLO, without its nonce. Raises GuestError for nonsense and for another protocol."""
    try:
        answer = decode_object(payload)
        text = {key: read(answer, key, str)[:200] for key in ("version", "boot_id", "kernel", "hostname")}
        hello = Hello(protocol=read(answer, "protocol", int), **text)
    except (ValueError, GuestError) as error:
        raise GuestError("the guest answered with nonsense", str(error)) from None
    if hello.protocol != PROTOCOL:
        raise GuestError(
            f"guestd speaks protocol {hello.protocol}, this program {PROTOCOL}",
            hint="the snapshot was made by another version: build it anew",
        )
    return hello
