"""An editor that speaks the Agent Client Protocol to a command, as a script."""

from __future__ import annotations

import json
import queue
import subprocess
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

Json = dict[str, Any]


class Editor:
    """A context manager. `updates` are what the agent said of its sessions, `asked` its requests, in order."""

    def __init__(self, argv: Sequence[str], cwd: Path, env: Mapping[str, str], deadline_s: float) -> None:
        self.updates: list[Json] = []
        self.asked: list[Json] = []
        self._deadline_s = deadline_s
        self._heard: queue.Queue[Json | None] = queue.Queue()
        self._number = 0
        self._errors: list[str] = []
        self._process = subprocess.Popen(
            argv,
            cwd=cwd,
            env=dict(env),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._threads = [threading.Thread(target=work) for work in (self._hear, self._note)]
        for thread in self._threads:
            thread.start()

    def __enter__(self) -> Editor:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        for thread in self._threads:
            thread.join()
        self._process.__exit__(None, None, None)

    @property
    def errors(self) -> str:
        """What it has said on standard error."""
        return "\n".join(self._errors)

    def call(self, method: str, **params: Any) -> Json:
        """The whole answer to a request. Notifications are kept, and the agent's questions are agreed to."""
        self._number += 1
        self._send({"id": self._number, "method": method, "params": params})
        while (message := self._heard.get(timeout=self._deadline_s)) is not None:
            if "method" not in message:
                assert message["id"] == self._number, message
                return message
            self._take(message)
        raise AssertionError(f"the agent has ended: {self.errors}")

    def close(self) -> int:
        """Go away, and wait for the end: its exit code."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        return self._process.wait(self._deadline_s)

    def _take(self, message: Json) -> None:
        if "id" not in message:
            self.updates.append(message["params"]["update"])
            return
        self.asked.append(message)
        option = next(each for each in message["params"]["options"] if each["kind"].startswith("allow"))
        outcome = {"outcome": "selected", "optionId": option["optionId"]}
        self._send({"id": message["id"], "result": {"outcome": outcome}})

    def _send(self, message: Json) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
        self._process.stdin.flush()

    def _hear(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._heard.put(json.loads(line))
        self._heard.put(None)

    def _note(self) -> None:
        assert self._process.stderr is not None
        self._errors.extend(line.rstrip("\n") for line in self._process.stderr)
