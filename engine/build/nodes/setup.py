"""One entry of the `setup` section."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath

from engine.build.context import BuildContext
from engine.build.step import execute
from engine.guest.guest import Guest
from engine.project.pieces import Piece
from engine.project.sending import put_piece
from sandboxfile import SetupStep


@dataclass(frozen=True)
class Setup:
    """Copy `inputs` into the guest and run `entry`, the file's `setup[index]`, as its user in `directory`."""

    entry: SetupStep
    index: int
    directory: str
    inputs: tuple[Piece, ...] = ()

    async def act(self, guest: Guest, context: BuildContext) -> None:
        await self._make(guest, context, self.directory, "making the directory")
        for piece in self.inputs:
            parent = str(PurePosixPath(piece.target).parent)
            if parent.startswith(f"{self.directory}/"):
                await self._make(guest, context, parent, f"making room for {piece.path}")
            context.log(f"copying {piece.path}")
            await put_piece(guest.channel, context.tree, piece)
        await execute(
            guest,
            context,
            ["bash", "-c", self.entry.run],
            title=f"setup[{self.index}]: {self.entry.run.strip().splitlines()[0]}",
            user=self.entry.user,
            cwd=self.directory,
            env=dict(self.entry.env),
        )

    async def _make(self, guest: Guest, context: BuildContext, directory: str, title: str) -> None:
        await execute(guest, context, ["install", "-d", "-o", "agent", "-g", "agent", directory], title=title)
