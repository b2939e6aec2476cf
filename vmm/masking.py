"""Paths of a shared directory that the guest cannot change, although it may write all around them.

virtiofsd runs in a mount namespace of its own, in which such paths are places of read-only mounts (mask.py). So it is
the host's kernel that refuses, whoever asks in the guest.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from vmm.errors import VmmError
from vmm.process import spawn

SCRIPT = Path(__file__).with_name("mask.py")
READY = "ready"
REPORT_S = 30.0  # a few milliseconds, on a busy machine a second


@dataclass(frozen=True)
class Mask:
    """`path`, relative to the shared directory, is `read-only` for the guest. It need not exist yet."""

    path: str
    kind: Literal["read-only"] = "read-only"


class MaskError(VmmError):
    """This host does not let us change mounts, not even in a namespace of our own."""


@contextlib.asynccontextmanager
async def spawn_masked(
    argv: Sequence[str],
    source: Path,
    place: Path,
    masks: Sequence[Mask],
    *,
    pass_fds: Sequence[int] = (),
    **options: Any,
) -> AsyncIterator[asyncio.subprocess.Process]:
    """`vmm.process.spawn`, but `argv` sees at `place` the directory `source` with its masks. Both are real paths.

    `source` is opened once, without following links: what is put in its place later is not served. Raises MaskError
    where the host forbids namespaces, VmmError when the path leads through a link by now.
    """
    reader, writer = os.pipe()
    with os.fdopen(reader, "rb", buffering=0) as report, os.fdopen(writer, "wb", buffering=0) as theirs:
        command = [sys.executable, "-I", "-S", str(SCRIPT), str(theirs.fileno()), str(source), str(place)]
        command += [*(f"{mask.kind}:{mask.path}" for mask in masks), "--", *argv]
        async with spawn(command, pass_fds=[*pass_fds, theirs.fileno()], **options) as process:
            theirs.close()
            try:
                answer = await asyncio.wait_for(_read_to_end(report), REPORT_S)
            except TimeoutError:
                raise MaskError(f"no mount namespace was ready within {REPORT_S:.0f} s") from None
            if answer != READY:
                raise _refusal(answer, source)
            yield process


async def why_unmasked() -> str | None:
    """Why nothing can be masked on this host; None when it can. Tries it, which takes about 50 ms."""
    with tempfile.TemporaryDirectory() as directory:
        here = Path(directory).resolve()
        try:
            async with spawn_masked(["true"], here, here, []):
                return None
        except VmmError as error:
            return error.brief


async def _read_to_end(pipe: Any) -> str:
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), pipe)
    try:
        return (await reader.read()).decode(errors="replace")
    finally:
        transport.close()


def _refusal(answer: str, source: Path) -> VmmError:
    number, _, reason = answer.partition(" ")
    if number == str(int(errno.ELOOP)):
        return VmmError(f"{source} leads through a link now, and did not when it was looked at")
    if number in (str(int(errno.ENOENT)), str(int(errno.ENOTDIR))):
        return VmmError(f"{source} cannot be served: {reason}")
    return MaskError(f"mount namespaces cannot be used here: {reason or 'no answer'}")
