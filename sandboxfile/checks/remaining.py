"""What is wrong between the sections that are right by themselves, in a file in which others are not."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from sandboxfile.checks.references import check_references
from sandboxfile.checks.shape import check_shape
from sandboxfile.compose.profiles import KEY as PROFILES
from sandboxfile.compose.profiles import check_needed, inactive
from sandboxfile.diagnostics import Problem
from sandboxfile.sections.model import Sandbox


def check_remaining(data: Mapping[str, Any], problems: Iterable[Problem]) -> list[Problem]:
    """The errors between the sections of `data` that have none of the `problems`.

    What is said of a section that has one could be no more than its consequence, so that waits until it is mended.
    """
    wrong = {str(problem.path[0]) if problem.path else "" for problem in problems if problem.severity == "error"}
    if wrong & {"services", PROFILES}:  # which services there are depends on both
        wrong |= {"services", PROFILES}
    left = {key: value for key, value in data.items() if key not in wrong} | {"version": "1"}
    found: list[Problem] = []
    if left_out := inactive(left):
        found += check_needed(left, left_out)
        left["services"] = {name: value for name, value in left["services"].items() if name not in left_out}
    shape = check_shape(left)
    if isinstance(shape, Sandbox) and not found:
        found += check_references(shape, wrong)
    return [problem for problem in found if problem.severity == "error"]
