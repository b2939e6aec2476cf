"""What a supervisor says of its start, as `up` hears it."""

from __future__ import annotations

import json

import pytest

from engine.errors import EngineError, MachineSilent
from engine.lifecycle.supervisor_process import read_event


def heard(**event: object) -> object:
    return read_event(json.dumps(event).encode(), lambda title: None)


@pytest.mark.parametrize(("silent", "kind"), [(True, MachineSilent), (False, EngineError), (None, EngineError)])
def test_a_machine_that_does_not_answer_is_told_from_one_that_fails(silent: object, kind: type[EngineError]) -> None:
    more = {} if silent is None else {"silent": silent}
    with pytest.raises(EngineError) as caught:
        heard(event="failed", brief="no", details="why", hint=None, **more)
    assert type(caught.value) is kind and (caught.value.brief, caught.value.details) == ("no", "why")


def test_ready() -> None:
    assert heard(event="step", title="restoring") is None
    assert heard(event="ready", services=[{"name": "web"}]) == [{"name": "web"}]
