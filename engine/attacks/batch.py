"""All attempts of one run as one program for the guest, and its answer.

One command of the guest runs them all: under emulation each command costs more than most attempts.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from engine.attacks.case import Case
from engine.errors import EngineError

_MODULES = ("talk", "packets", "fuse", "containers", "runner")  # in the order in which they import each other
# Imports of the guest's modules name them as they are called here; there they come out of this text.
_START = """\
import json, sys, types
order = json.load(sys.stdin)
for name, text in order["sources"]:
    module = sys.modules[name] = types.ModuleType(name)
    exec(compile(text, name, "exec"), module.__dict__)
sys.modules[name].run(order)
"""
COMMAND = ("python3", "-c", _START)


def make_order(cases: Sequence[Case], stage: Mapping[str, Any]) -> str:
    """What COMMAND reads from its standard input. `stage` are the names that attacks use; it must say `gateway`."""
    here = Path(__file__).parent / "guest"
    sources = [(f"engine.attacks.guest.{name}", (here / f"{name}.py").read_text()) for name in _MODULES]
    attempts = [{"label": case.label, "attack": case.attack, "value": case.value} for case in cases]
    return json.dumps({"sources": sources, "cases": attempts, "stage": dict(stage)})


def read_times(text: str) -> dict[str, float]:
    """How many seconds each attempt took, by its label, as far as the guest says so: of use to people alone."""
    found = {}
    for line in text.splitlines():
        with contextlib.suppress(ValueError, KeyError, TypeError):
            answer = json.loads(line)
            found[str(answer["label"])] = float(answer["seconds"])
    return found


def read_answers(text: str) -> dict[str, str]:
    """What each attempt said, by its label. Raises EngineError where the guest's answer is none."""
    try:
        answers = [json.loads(line) for line in text.splitlines()]
        return {str(answer["label"]): str(answer["said"]) for answer in answers}
    except (ValueError, KeyError, TypeError) as error:
        raise EngineError("the guest's answer to the attacks cannot be read", str(error)) from error
