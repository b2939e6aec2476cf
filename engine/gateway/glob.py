"""Patterns with stars, matched in time that grows with the text times the pattern, whatever both are.

A regular expression would go back to each star again and again: three stars in a segment of 16 KiB took it minutes, and
the guest chooses the text. Here a set of places in the text is kept as the bits of one number, and each token of the
pattern makes the next set out of it. What runs over any number of letters is one addition: the carry runs over them
(MatchStar of Cameron et al., "Bitwise data parallelism in regular expression matching", PACT 2014).
"""

from __future__ import annotations

from collections.abc import Iterator

_STARS = ("**/", "**", "*")


class Glob:
    """`*` stays within a segment, `**` does not, `**/` is any number of segments, and `/x/**` is also `/x`.

    All else is literal. With `fold`, the case of letters in ASCII makes no difference.
    """

    def __init__(self, pattern: str, *, fold: bool = False) -> None:
        self._fold = fold
        tokens = list(_tokens(pattern.lower() if fold else pattern))
        plain = next((at for at, token in enumerate(tokens) if len(token) > 1 or token == "*"), len(tokens))
        self._prefix = "".join(tokens[:plain])
        self._tokens = tokens[plain:]

    def matches(self, text: str) -> bool:
        """Whether the pattern is about the whole text."""
        text = text.lower() if self._fold else text
        if not self._tokens:
            return text == self._prefix
        return text.startswith(self._prefix) and _Places(text[len(self._prefix) :]).end(self._tokens)


class _Places:
    """Of a text: bit n of a set is the place before its letter n."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._all = (1 << len(text) + 1) - 1
        self._of: dict[str, int] = {}
        self._slash = self._letter("/")
        self._other = self._all >> 1 & ~self._slash

    def end(self, tokens: list[str]) -> bool:
        """Whether the tokens lead from the beginning of the text to its end."""
        places = 1
        for token in tokens:
            places = self._behind(places, token)
            if not places:
                return False
        return bool(places >> len(self._text))

    def _behind(self, places: int, token: str) -> int:
        if token == "*":
            return _run(places, self._other)
        if token == "**":
            return self._all & -(places & -places)  # all from the first one on
        if token == "**/":
            # Whole segments, none of them empty: a slash is passed where no other one is directly before it.
            passed = self._other | self._slash & ~(self._slash << 1)
            return places | _run(places & self._other, passed) & self._slash << 1
        if token == "/**":
            return (places | (1 << len(self._text) if places & self._slash else 0)) & (1 << len(self._text))
        return (places & self._letter(token)) << 1

    def _letter(self, letter: str) -> int:
        """The places before this letter."""
        if (known := self._of.get(letter)) is None:
            digits = "".join(["1" if each == letter else "0" for each in reversed(self._text)])
            known = self._of[letter] = int(digits or "0", 2)
        return known


def _run(places: int, passed: int) -> int:
    """The places that are reached from these over any number of letters, each of which is `passed`."""
    return (((places & passed) + passed) ^ passed) | places


def _tokens(pattern: str) -> Iterator[str]:
    at = 0
    while at < len(pattern):
        if pattern.startswith("/**", at) and at + 3 == len(pattern):
            token = "/**"
        else:
            token = next((star for star in _STARS if pattern.startswith(star, at)), pattern[at])
        yield token
        at += len(token)
