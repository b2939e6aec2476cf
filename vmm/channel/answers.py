"""Reading what the guest answers, which may be anything."""

from __future__ import annotations

from collections.abc import Mapping

from vmm.channel.errors import GuestError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TypeVar

    T = TypeVar("T", str, bool, int)

LONGEST = 1 << 16  # characters of a text
LARGEST = 2**63 - 1
NAMES: dict[type, str] = {str: "a text", bool: "a yes or no", int: "a number"}


def read(answer: object, name: str, kind: type[T]) -> T:
    """The field `name` of the guest's answer. Raises GuestError when it is missing, of another type or out of bounds.

    A number is from 0 to 2**63 - 1, a text at most 64 Ki characters.
    """
    value = answer.get(name) if isinstance(answer, Mapping) else None
    if type(value) is kind and _is_bounded(value):  # True is no number
        return value
    what = None if value is None else f"there is one of type {type(value).__name__}"  # its text may be without end
    raise GuestError(f"the guest's answer lacks {name!r}, which is {NAMES[kind]}", what)


def read_mapping(answer: object, name: str) -> Mapping[str, Any]:
    """The same for a field that holds others."""
    value = answer.get(name) if isinstance(answer, Mapping) else None
    if not isinstance(value, Mapping):
        raise GuestError(f"the guest's answer lacks {name!r}")
    return value


def exit_code(answer: object) -> int:
    """The code with which a command of the guest ended."""
    code = answer.get("code") if isinstance(answer, Mapping) else None
    if type(code) is not int or not 0 <= code <= 255:
        raise GuestError("the guest reported no exit code")
    return code


def _is_bounded(value: str | bool | int) -> bool:
    return len(value) <= LONGEST if isinstance(value, str) else 0 <= value <= LARGEST
