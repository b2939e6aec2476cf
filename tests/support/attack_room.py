"""A room in which nothing runs: the commands answer what a test says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from engine.attacks.room import Ran, Room
from engine.attacks.trial import Trial

Answer = Callable[..., Ran]


def ran(code: int | None = 0, out: str = "", err: str = "") -> Ran:
    return Ran(("x",), code, out, err, 0.0)


class FakeRoom(Room):
    """Commands answer what the test says; there are no processes but those that it names."""

    def __init__(self, base: Path) -> None:
        variables = {f"SANDBOX_{name}_DIR": str(base / name) for name in ("STATE", "RUNTIME", "CONFIG", "CACHE")}
        super().__init__(base, {**variables, "HOME": str(base / "home")})
        self.answer: Answer = lambda *argv, **options: ran()
        self.alive: dict[int, str] = {}
        self.calls: list[tuple[str, ...]] = []

    def sandbox(self, *argv: str, cwd: Path, timeout_s: float = 1.0, stdin: str | None = None) -> Ran:
        self.calls.append(argv)
        return self.answer(*argv, stdin=stdin)

    def processes(self) -> dict[int, str]:
        return self.alive

    def left(self) -> list[str]:
        return list(self.alive.values())


def room(trial: Trial) -> FakeRoom:
    assert isinstance(trial.room, FakeRoom)
    return trial.room
