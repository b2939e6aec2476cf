"""Words in double braces in an `agent.yaml`. They stand for values that are known later.

`{{prompt}}` and `{{session}}` are for commands, `{{workspace}}`, the working directory in the guest, for seeds,
`{{placeholder}}` for what a credential puts into the guest, `{{secret}}` for the header that the gateway sends, and
`{{version}}` for what is installed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import AfterValidator

from sandboxfile.diagnostics import one_of
from sandboxfile.sections.fields import refuse

_WORD = re.compile(r"\{\{\s*([^{}]*?)\s*\}\}")


def words_in(value: Any) -> Iterator[str]:
    """The words in double braces in a text, or in all texts of plain data, keys included."""
    if isinstance(value, str):
        yield from _WORD.findall(value)
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from words_in(key)
            yield from words_in(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from words_in(item)


def fill(value: Any, words: Mapping[str, str]) -> Any:
    """The text or plain data with these words replaced by their values, keys included; other words stay."""
    if isinstance(value, str):
        return _WORD.sub(lambda found: words.get(found[1], found[0]), value)
    if isinstance(value, Mapping):
        return {fill(key, words): fill(item, words) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [fill(item, words) for item in value]
    return value


def check_words(value: Any, *words: str, key: str | None = None) -> None:
    """Raise an error for the field when `value` has words in double braces other than `words`."""
    for word in words_in(value):
        if word not in words:
            known = one_of([f"{{{{{name}}}}}" for name in words]) if words else "none"
            raise refuse(f"has the unknown word {{{{{word}}}}}", f"known here: {known}", key)


def knows(*words: str) -> AfterValidator:
    """A validator for a field that may have these words in double braces, and no others."""

    def check(value: Any) -> Any:
        check_words(value, *words)
        return value

    return AfterValidator(check)
