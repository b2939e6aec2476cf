"""The sessions of this machine by their names. They live as long as guestd: what replaces it knows none of them."""

from __future__ import annotations

from .command import Loop
from .failure import Failure, Json
from .session import Session
from .viewer import Viewer

MAX_SESSIONS = 16
MAX_VIEWERS = 16  # of one session
LONGEST_NAME = 64


class Sessions:
    """Those that run, and how the last one of each name has ended."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._running: dict[str, Session] = {}
        self._ended: dict[str, Json] = {}

    def join(self, stream: int, request: Json) -> Viewer:
        """A viewer of the session `name`; it is started when there is none and the request has a command (`argv`)."""
        name = request.get("name")
        if not isinstance(name, str) or not 0 < len(name) <= LONGEST_NAME:
            raise Failure("no name for a session")
        session = self._running.get(name)
        if session is None:
            if not request.get("argv"):
                raise Failure(f"no session {name!r} runs in this machine")
            if len(self._running) >= MAX_SESSIONS:
                raise Failure(f"too many sessions at once in this machine (limit {MAX_SESSIONS})")
            session = self._running[name] = Session(self._loop, name, request, self._forget)
        elif len(session.viewers) >= MAX_VIEWERS:
            raise Failure(f"too many look at the session {name!r} (limit {MAX_VIEWERS})", hint="detach one of them")
        viewer = Viewer(self._loop, stream, session, request)
        self._loop.streams[stream] = viewer
        session.join(viewer)
        return viewer

    def describe(self) -> Json:
        """What runs, with its command and how many look at it, and with what codes others have ended."""
        running = {
            name: {"argv": session.argv, "viewers": len(session.viewers)} for name, session in self._running.items()
        }
        return {"running": running, "ended": self._ended}

    def end_all(self) -> None:
        """The host is gone for good."""
        running, self._running = self._running, {}
        for session in running.values():
            session.end()

    def _forget(self, session: Session, result: Json) -> None:
        if self._running.get(session.name) is session:
            del self._running[session.name]
            self._ended.pop(session.name, None)
            if code := result.get("ok"):
                self._ended[session.name] = code
                for name in list(self._ended)[:-MAX_SESSIONS]:
                    del self._ended[name]
