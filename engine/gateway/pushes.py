"""What a `git push` may do, read from its own words: the commands before the pack say which ref becomes what.

The body of POST git-receive-pack (gitprotocol-pack, "Reference Update Request"): lines `shallow ID`, then one command
`OLD NEW REF` for each ref, the first with the client's capabilities behind a NUL, then a flush, then the pack. A push
is the same in the protocol's versions 0, 1 and 2. What git reads more leniently than this (capital digits,
capabilities at a later command, another packet in the place of the flush) is refused.

Whether an update is forced cannot be seen here, since the objects would have to be known: who may update a ref may
rewrite it. That an id of zeros is no ref that exists, the server checks.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from engine.gateway.body_checks import BodyRefused
from engine.gateway.errors import GatewayError
from engine.gateway.glob import Glob
from engine.gateway.pkt_lines import BadLine, PktLines
from engine.gateway.push_reports import MEDIA_TYPE, report

CREATE, UPDATE, DELETE = CHANGES = ("create", "update", "delete")
_BRANCH = "refs/heads/"
_COMMAND = re.compile(rb"([0-9a-f]{40}|[0-9a-f]{64}) ([0-9a-f]{40}|[0-9a-f]{64}) ([^\x00-\x20\x7f]+)")
_SHALLOW = re.compile(rb"shallow (?:[0-9a-f]{40}|[0-9a-f]{64})")
_CAPABILITIES = re.compile(rb"[ -~]*")
# What would be a second instruction, which nobody here understands.
_REFUSED = {b"push-options": "push options", b"push-cert": "a signed push"}
_REFUSED_REF, _WITH_OTHERS = "refused by the sandbox", "refused by the sandbox, with the others"
# git-check-ref-format, for a name of which the letters are known to be printable, and no space.
_BAD_NAME = re.compile(r"\.\.|[~^:?*\[\\]|@\{|//|/\.|\.lock(?:/|$)|[./]$")


@dataclass(frozen=True)
class Pushes:
    """A check of bodies: pushes to these refs alone. Raises GatewayError when it makes no sense.

    `refs` are patterns of whole names (`refs/heads/agent/*`: `*` within one segment, `**` any depth), in their own
    case. `changes` are create, update and delete; an update may be a forced one.
    """

    refs: tuple[str, ...]
    changes: tuple[str, ...] = (CREATE, UPDATE)

    def __post_init__(self) -> None:
        for ref in self.refs:
            if not ref.startswith("refs/") or not ref.isprintable() or " " in ref:
                raise GatewayError(f"{ref[:80]!r} is no pattern of a ref")
        if unknown := set(self.changes) - set(CHANGES):
            raise GatewayError(f"{min(unknown)[:80]!r} is no change of a ref")

    def inspector(self) -> PushInspector:
        return PushInspector(self)

    def check(self, old: bytes, new: bytes, ref: str) -> None:
        """Raises BodyRefused for a command that is not allowed."""
        change = _change(old, new)
        shown = ref.removeprefix(_BRANCH)
        if not any(_glob(pattern).matches(ref) for pattern in self.refs):
            named = ", ".join(pattern.removeprefix(_BRANCH) for pattern in self.refs)
            more = f"`push: [{', '.join(_quoted(text) for text in (*_shown(self.refs), shown))}]`"
            raise BodyRefused(f"a push to {ref}; it may push to {named} only", hint=f"write {more}")
        if change not in self.changes:
            words = ", ".join(word for word in CHANGES if word in (*self.changes, change))
            raise BodyRefused(
                f"a push that would {change} {ref}; it may only {' and '.join(self.changes)} refs",
                hint=f"write `changes: [{words}]`",
            )


class PushInspector:
    """Reads the commands of one push."""

    def __init__(self, allowed: Pushes) -> None:
        self.accepted = False
        self._allowed = allowed
        self._lines = PktLines()
        self._refs: list[str] = []
        self._refused: dict[str, BodyRefused] = {}
        self._capabilities: frozenset[bytes] = frozenset()
        self._over = False  # the flush has come

    def feed(self, data: bytes) -> None:
        if self.accepted:
            return
        try:
            if self._over and data:
                raise BadLine("a body that goes on after an empty list of commands")
            for line in self._lines.feed(data):
                if line is None:
                    self._over = True
                    break
                self._read(line)
            if self._over and not self._refs and self._lines.rest:
                raise BadLine("a body that goes on after an empty list of commands")
        except BadLine as error:
            raise BodyRefused(f"not a push as git writes it: {error.brief}") from None
        if self._over and self._refused:
            first = next(iter(self._refused.values()))
            raise BodyRefused(first.brief, hint=first.hint, reply=self._report)
        self.accepted = self._over and bool(self._refs)

    def end(self) -> None:
        # git asks whether it may push at all with a flush alone, before it sends a large pack.
        if not self._over:
            raise BodyRefused("not a push as git writes it: it ends within its commands")
        self.accepted = True

    def _read(self, line: bytes) -> None:
        text = line.removesuffix(b"\n")
        if _SHALLOW.fullmatch(text) and not self._refs:
            return
        text, mark, capabilities = text.partition(b"\0")
        if text == b"push-cert":
            raise BodyRefused("a signed push", hint="push with --no-signed")
        if mark:
            self._check_capabilities(capabilities)
        command = _COMMAND.fullmatch(text)
        if command is None or len(command[1]) != len(command[2]):
            raise BadLine("a line that is no command")
        try:
            ref = command[3].decode()
        except UnicodeDecodeError:
            raise BadLine("a ref that is not UTF-8") from None
        if not ref.startswith("refs/") or not ref.isprintable() or _BAD_NAME.search(ref):
            raise BadLine("a name that no ref can have")
        self._refs.append(ref)
        try:
            self._allowed.check(command[1], command[2], ref)
        except BodyRefused as error:
            self._refused.setdefault(ref, error)

    def _check_capabilities(self, text: bytes) -> None:
        if self._refs:
            raise BadLine("capabilities at a command that is not the first")
        if not _CAPABILITIES.fullmatch(text):
            raise BadLine("capabilities with control characters")
        for word in text.split():
            if refused := _REFUSED.get(word.partition(b"=")[0]):
                raise BodyRefused(f"{refused} in a push", hint="push without --push-option and with --no-signed")
        self._capabilities = frozenset(text.split())

    def _report(self, text: str) -> tuple[str, bytes] | None:
        """The refusal for git's own eyes."""
        why = {ref: _REFUSED_REF if ref in self._refused else _WITH_OTHERS for ref in self._refs}
        words = report(why, self._capabilities, text)
        return None if words is None else (MEDIA_TYPE, words)


def whole_ref(pattern: str) -> str:
    """The pattern of whole names that people mean: `agent/*` is about branches."""
    return pattern if pattern.startswith("refs/") else _BRANCH + pattern


def _change(old: bytes, new: bytes) -> str:
    if not new.strip(b"0"):
        if not old.strip(b"0"):
            raise BadLine("a command that changes nothing into nothing")
        return DELETE
    return UPDATE if old.strip(b"0") else CREATE


def _shown(refs: Sequence[str]) -> list[str]:
    return [ref.removeprefix(_BRANCH) for ref in refs]


def _quoted(text: str) -> str:
    """As YAML writes it in a list of one line."""
    return text if re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_./*-]*", text) else '"' + text.replace('"', '\\"') + '"'


@lru_cache(1024)
def _glob(pattern: str) -> Glob:
    return Glob(pattern)
