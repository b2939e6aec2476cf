"""A terminal that outlives those who look at it: the program in it goes on when its viewers are gone.

Its viewers (`viewer.Viewer`) all see the same and may all type. The terminal has the size of the viewer that was active
last, as a new tmux does it: the window in which somebody works looks right, and a small one that was forgotten
elsewhere does not make it small.

The program waits for the fastest viewer, as it would for its terminal, and for none that takes nothing for seconds.
Whoever is behind by more than the history holds gets the screen painted anew.
"""

from __future__ import annotations

import contextlib
import os
import re
import select
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Protocol

from .command import Loop
from .failure import Json, error_of
from .history import History
from .modes import Modes
from .process import Child, SpawnFailure, exit_of, set_size, spawn, unread
from .wire import MAX_PAYLOAD

AHEAD = 1 << 16  # bytes by which the program may be ahead of its fastest viewer
STALLED_S = 5.0  # after so long without taking anything nobody waits for a viewer
NUDGED_S, NUDGED_MOST_S = 0.1, 1.0  # how long the terminal is a row smaller, to have the program paint its screen anew
GRACE_S = 0.1  # for output that a child of the ended program still holds open
# What a terminal says by itself: to questions of the program, and when it gets or loses the focus.
_ANSWERS = re.compile(
    rb"(?:\x1b(?:\[[?>=][0-9;]*(?:[cRnu]|\$y)|\[[0-9;]*(?:[Rnt]|\$y)|\[[IO]|\][^\x07\x1b]*(?:\x07|\x1b\\)"
    rb"|[P_][^\x1b]*\x1b\\))+"
)


class Viewer(Protocol):
    """What a session knows of a viewer. `place` is up to where it has been sent the history."""

    size: tuple[int, int]
    read_only: bool
    stalled: bool
    place: int

    def pump(self) -> None: ...

    def repaint(self) -> None: ...

    def typed(self, size: int, *, now: bool) -> None: ...


class Session:
    """One program in a terminal of its own. `forget` is called when it has ended, with its result."""

    def __init__(self, loop: Loop, name: str, request: Json, forget: Callable[[Session, Json], None]) -> None:
        self.pid = 0
        self.kill_at: float | None = None
        self.argv = [str(word) for word in request.get("argv") or ()]
        self.name = name
        self.history = History()
        self.modes = Modes()
        self.viewers: list[Viewer] = []  # the one that was active last is the last one
        self.result: Json | None = None  # when the program has ended and all of its output is in the history
        self.words = ""  # why it could not be started
        self._loop, self._forget = loop, forget
        self._child: Child | None = None
        self._size = (24, 80)
        self._input: deque[tuple[Viewer, bytearray]] = deque()
        self._input_watched = False
        self._exit: int | None = None
        self._owed = 0
        self._grace_over = self._unwanted = False
        self._waited_at: int | None = None  # how far the fastest viewer was when the program began to wait for it
        self._nudged: float | None = None
        loop.starting.add(self)
        loop.submit(lambda: spawn({**request, "tty": True}), self._spawned)

    def end(self) -> None:
        """Nobody wants it any more: its processes are ended."""
        self._unwanted = True
        if self._child and self._exit is None:
            self._release()
            self._loop.bury(self)

    def reap(self) -> bool:
        """Called when no live process is in the unwanted session; False when its leader is not there yet."""
        assert self._child
        if self._child.process.poll() is None:
            self._child.process.kill()
            return False
        return True

    def _spawned(self, future: Future[Child]) -> None:
        self._loop.starting.discard(self)
        error = future.exception()
        if error is not None:
            result = error_of(error, "session")
            if isinstance(error, SpawnFailure):
                self.words, result = f"{error}\n", {"ok": {"code": error.code, "signal": None}}
            self._conclude(result)
            return
        self._child = child = future.result()
        self.pid = child.process.pid
        if self._unwanted:
            self.end()
            return
        set_size(child.stdin, *self._size)
        self._loop.watch(child.pidfd, select.EPOLLIN, self._exited)
        self.read_on()
        self._write()

    # its viewers

    def join(self, viewer: Viewer) -> None:
        """Show it to one more: what has been on the screen so far, and what comes."""
        self.viewers.insert(0, viewer)
        if not viewer.read_only:
            self.activate(viewer)
        if self._child or self.history.end:
            viewer.repaint()
            self.nudge()

    def leave(self, viewer: Viewer) -> None:
        """Without it; the program goes on, in the size of whoever was active before."""
        self.viewers.remove(viewer)
        self._fit()
        self.read_on()

    def activate(self, viewer: Viewer) -> None:
        """Somebody works there."""
        if self.viewers[-1] is not viewer:
            self.viewers.remove(viewer)
            self.viewers.append(viewer)
        self._fit()

    def _fit(self) -> None:
        active = next((viewer for viewer in reversed(self.viewers) if not viewer.read_only), None)
        if active and active.size != self._size:
            self._size = active.size
            if not self._nudged:
                self._resize(*self._size)

    def nudge(self) -> None:
        """Have the program paint its screen anew: for a moment, the terminal is a row smaller than it is."""
        if self._nudged is None and self._child:
            rows, cols = self._size
            self._nudged = time.monotonic()
            self._resize(rows - 1 if rows > 1 else 2, cols)
            self._loop.call_later(NUDGED_MOST_S, self._settle)

    def _settle(self) -> None:
        if self._nudged is not None:
            self._nudged = None
            self._resize(*self._size)

    def _resize(self, rows: int, cols: int) -> None:
        if self._child and self._child.stdin >= 0:
            set_size(self._child.stdin, rows, cols)

    # towards the program

    def type(self, viewer: Viewer, data: bytes) -> None:
        """A viewer's keys. Every terminal answers the program's questions; only that of the active one is heard."""
        if _ANSWERS.fullmatch(data):
            if self.viewers[-1] is not viewer:
                viewer.typed(len(data), now=True)
                return
        else:
            self.activate(viewer)
        self._input.append((viewer, bytearray(data)))
        if self._child:
            self._write()

    def _write(self, events: int = 0) -> None:
        child = self._child
        assert child
        blocked = False
        while self._input and not blocked:
            viewer, data = self._input[0]
            count = len(data)  # of a terminal that is gone: swallowed
            if child.stdin >= 0:
                try:
                    with memoryview(data) as view:
                        count = os.write(child.stdin, view[:MAX_PAYLOAD])
                except BlockingIOError:
                    count, blocked = 0, True
                except OSError:
                    pass
            del data[:count]
            if not data:
                self._input.popleft()
            viewer.typed(count, now=not data)
        self._watch_input(blocked)

    def _watch_input(self, wanted: bool) -> None:
        assert self._child
        if wanted and not self._input_watched:
            self._loop.watch(self._child.stdin, select.EPOLLOUT, self._write)
        elif self._input_watched and not wanted:
            self._loop.unwatch(self._child.stdin)
        self._input_watched = wanted

    # from the program

    def read_on(self) -> None:
        """Read, unless the viewers are too far behind."""
        if self._child and self._child.stdin >= 0 and not self._must_wait():
            self._waited_at = None
            self._loop.watch_output(self._child.stdin, self._read)

    def _fastest(self) -> int | None:
        places = [viewer.place for viewer in self.viewers if not viewer.stalled]
        return max(places) if places else None

    def _must_wait(self) -> bool:
        fastest = self._fastest()
        return fastest is not None and self.history.end - fastest >= AHEAD

    def _read(self, events: int) -> None:
        child = self._child
        assert child
        if self._must_wait():
            self._loop.unwatch_output(child.stdin)
            if self._waited_at is None:
                self._waited_at = self._fastest()
                self._loop.call_later(STALLED_S, self._give_up_waiting)
            return
        try:
            data = os.read(child.stdin, MAX_PAYLOAD)
        except BlockingIOError:
            return
        except OSError:  # EIO: the last process let go of the terminal
            data = b""
        if data:
            self._owed -= len(data)
            self.history.append(data)
            self.modes.saw(data)
            for viewer in list(self.viewers):
                viewer.pump()
            if self._nudged is not None and time.monotonic() - self._nudged > NUDGED_S:
                self._settle()
        else:
            self._close_terminal()
        self._finish_if_done()

    def _give_up_waiting(self) -> None:
        """Whoever has not taken anything meanwhile is not waited for, until it does."""
        if self._waited_at is None or not self._must_wait():
            return
        if self._fastest() == self._waited_at:
            for viewer in self.viewers:
                viewer.stalled = True
            self.read_on()
        else:
            self._waited_at = self._fastest()
            self._loop.call_later(STALLED_S, self._give_up_waiting)

    # the end

    def _exited(self, events: int) -> None:
        child = self._child
        assert child
        if child.process.poll() is None:
            return  # an event of an earlier descriptor with this number
        self._loop.unwatch(child.pidfd)
        self._exit = child.process.returncode
        self._owed = unread(child.stdin) if child.stdin >= 0 else 0
        self._loop.call_later(GRACE_S, self._end_grace)
        self._finish_if_done()

    def _end_grace(self) -> None:
        self._grace_over = True
        self._finish_if_done()

    def _finish_if_done(self) -> None:
        if self._exit is None or self.result is not None or self._unwanted:
            return
        assert self._child
        if self._child.stdin >= 0 and (not self._grace_over or self._owed > 0):
            return
        self._release()
        self._conclude(exit_of(self._exit))

    def _conclude(self, result: Json) -> None:
        self.result = result
        self._forget(self, result)
        for viewer in list(self.viewers):
            viewer.pump()

    def _close_terminal(self) -> None:
        child = self._child
        assert child
        if child.stdin >= 0:
            self._watch_input(False)
            self._loop.unwatch_output(child.stdin)
            os.close(child.stdin)
            child.stdin = -1
            child.outputs.clear()
            self._write()

    def _release(self) -> None:
        child = self._child
        assert child
        self._close_terminal()
        if child.pidfd >= 0:
            self._loop.unwatch(child.pidfd)
            with contextlib.suppress(OSError):
                os.close(child.pidfd)
            child.pidfd = -1
