"""Running a command in a guest with the standard streams of this process."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from vmm.channel.guest import GuestChannel


def run_attached(
    control: Path | str,
    argv: Sequence[str],
    *,
    user: str,
    cwd: str | None,
    env: Mapping[str, str] | None = None,
    tty: bool = False,
    interactive: bool = False,
    forward: bool = True,
) -> int:
    """Run `argv` in the guest behind the control socket; return its exit code, or 128 + N when signal N ended it.

    Signals to this process are passed on to the command; without `forward` they end this process at once. Raises
    GuestError when nobody answers on the socket.
    """
    from vmm.channel.attach import attach

    return attach(control, argv, tty=tty, interactive=interactive, user=user, cwd=cwd, env=env, forward=forward)


async def run_within(channel: GuestChannel, argv: Sequence[str], *, user: str, cwd: str, tty: bool) -> int:
    """Run `argv`, with standard input, in a guest of this very process, while its event loop goes on running."""
    import asyncio
    import signal

    from vmm.channel.attach import Attachment
    from vmm.channel.relay import Relay
    from vmm.process import scratch_directory

    with scratch_directory("sandbox-") as directory:
        control = directory / "control.sock"
        async with Relay(channel, control):
            open_one = asyncio.to_thread(Attachment, control, argv, tty=tty, interactive=True, user=user, cwd=cwd)
            with await open_one as attachment:
                loop = asyncio.get_running_loop()
                loop.add_signal_handler(signal.SIGWINCH, attachment.signal, signal.SIGWINCH)
                running = asyncio.ensure_future(asyncio.to_thread(attachment.run))
                try:
                    return await asyncio.shield(running)
                finally:
                    loop.remove_signal_handler(signal.SIGWINCH)
                    attachment.stop()  # a thread cannot be cancelled
                    await asyncio.gather(running, return_exceptions=True)
