"""Failures of other packages as errors of this one."""

from __future__ import annotations

import pytest

from engine.errors import EngineError
from vmm.errors import VmmError


@pytest.mark.parametrize(
    ("error", "shown"),
    [
        (VmmError("brief", "details", "hint"), ("brief", "details", "hint", 1)),
        (OSError("no such file"), ("no such file", None, None, 1)),
        (RuntimeError("x"), ("x", "RuntimeError in our own code", None, 3)),
        (RuntimeError(), ("RuntimeError", "RuntimeError in our own code", None, 3)),
    ],
)
def test_any_failure_has_the_same_shape(error: Exception, shown: tuple[str | int | None, ...]) -> None:
    failure = EngineError.of(error)
    assert (failure.brief, failure.details, failure.hint, failure.exit_code) == shown


def test_one_of_our_own_stays_what_it_is() -> None:
    error = EngineError("x", exit_code=2)
    assert EngineError.of(error) is error
