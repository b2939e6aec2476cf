"""What a guest says of its agent is read as what anybody may have said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from engine.lifecycle import sessions
from engine.lifecycle.sessions import AtWork, agent_at_work, is_another
from engine.state.instances import AgentCall


@pytest.mark.parametrize(
    ("answer", "word", "terminals", "code"),
    [
        ({"running": {}, "ended": {}}, "none", None, None),
        ({"running": {"other": {"viewers": 1}}, "ended": {}}, "none", None, None),
        ({"running": {"agent": {"viewers": 2, "argv": ["a"]}}, "ended": {"agent": {"code": 3}}}, "attached", 2, None),
        ({"running": {"agent": {"viewers": 0}}}, "detached", 0, None),
        ({"ended": {"agent": {"code": 137, "signal": 9}}}, "ended", None, 137),
        ({}, "none", None, None),
        ({"running": ["agent"], "ended": "agent"}, "none", None, None),
        ({"running": {"agent": {"viewers": 10**300, "argv": "a"}}}, "detached", 0, None),
        ({"running": {"agent": {"viewers": True, "argv": [{}, None]}}}, "detached", 0, None),
        ({"ended": {"agent": {"code": "\x1b[2J"}}}, "none", None, None),
        ({"ended": {"agent": {"code": -1}}}, "none", None, None),
    ],
)
def test_the_answer(
    monkeypatch: pytest.MonkeyPatch, answer: dict[str, Any], word: str, terminals: int | None, code: int | None
) -> None:
    monkeypatch.setattr(sessions, "ask", lambda control, op, request, timeout_s: answer)
    at_work = agent_at_work(Path("control"))
    assert (at_work.word, at_work.terminals, at_work.code) == (word, terminals, code)


def test_an_agent_with_other_settings() -> None:
    call = AgentCall(["claude", "--x"], "agent")
    assert not is_another(AtWork(), call) and not is_another(AtWork(0, argv=("claude", "--x")), call)
    assert is_another(AtWork(0, argv=("claude",)), call)
