"""The keys that detach a terminal from its session, found in what the terminal sends. Pure.

A key has several forms: programs have their terminal send keys in the forms of the kitty protocol or of xterm, where
`ctrl-d` is `ESC [ 100 ; 5 u` or `ESC [ 27 ; 5 ; 100 ~`. Pasted text is never a key: between the marks of a bracketed
paste nothing is looked for, nor in more bytes at once than anybody types.
"""

from __future__ import annotations

import re
from typing import NamedTuple

TYPED = 32  # bytes in one piece: a few keys, in their long forms, over a slow line
HELD = 96  # bytes that may wait for the next key
_CONTROL = re.compile(r"ctrl-([a-z@\[\\\]^_])", re.IGNORECASE)
_TOKEN = re.compile(rb"\x1b\[[0-9;:?<>=]*[@-~]|.", re.DOTALL)
_KITTY = re.compile(rb"\x1b\[([0-9]{1,7})(?::[0-9:]*)?(?:;([0-9]{1,4})(?::([123]))?(?:;[0-9:]*)?)?u")
_XTERM = re.compile(rb"\x1b\[27;([0-9]{1,4});([0-9]{1,7})~")
_BEGIN, _END = b"\x1b[200~", b"\x1b[201~"
_CTRL, _LOCKS = 4, 64 | 128  # modifiers, less one; caps lock and num lock change no key
_MODIFIER_KEYS = range(57441, 57455)


class DetachKeys(NamedTuple):
    """A sequence of keys. `words` is how people write it; `keys` are its characters, control characters among them."""

    words: str
    keys: bytes


def parse_keys(text: str) -> DetachKeys:
    """Keys as Docker writes them: `ctrl-p,ctrl-q`, single characters among them; `none` for no keys at all.

    Raises ValueError, which says what is wrong.
    """
    if text.strip().lower() == "none":
        return DetachKeys("none", b"")
    keys = bytearray()
    names = text.split(",")
    for name in names:
        control = _CONTROL.fullmatch(name)
        if control:
            keys.append(ord(control[1].upper()) & 0x1F)
        elif len(name) == 1 and "!" <= name <= "~":
            keys.append(ord(name))
        else:
            raise ValueError(f"{name!r} is no key: write keys such as ctrl-p,ctrl-q, or none")
    if len(keys) > 8:
        raise ValueError("at most 8 keys are possible")
    if keys[0] >= 0x20:
        raise ValueError("the first key must be one with ctrl: any other belongs to the text that is typed")
    return DetachKeys(" ".join(names), bytes(keys))


class KeyWatch:
    """Looks for the keys in what a terminal sends, piece by piece."""

    def __init__(self, keys: bytes) -> None:
        self._keys = keys
        self._held: list[tuple[int | None, bytes]] = []  # keys that may be the beginning, and what came between them
        self._pasting = False
        self._tail = b""  # of what was let through: a mark may come in two pieces

    def feed(self, data: bytes) -> tuple[bytes, bool]:
        """What is for the program, and whether the keys were pressed. What comes behind them is for nobody."""
        if not self._keys:
            return data, False
        passed = bytearray()
        while data:
            around = self._tail + data
            mark = _END if self._pasting else _BEGIN
            found = around.find(mark)
            end = len(data) if found < 0 else found + len(mark) - len(self._tail)
            part, data = data[:end], data[end:]
            self._tail = (self._tail + part)[-(len(mark) - 1) :]
            if self._pasting or found >= 0 or len(part) > TYPED:
                passed += self._release() + part
            elif self._look(part, passed):
                return bytes(passed), True
            if found >= 0:
                self._pasting, self._tail = not self._pasting, b""
        return bytes(passed), False

    def _look(self, part: bytes, passed: bytearray) -> bool:
        for token in _TOKEN.findall(part):
            self._held.append((_key(token), token))
            while not self._may_begin() or sum(len(held) for _, held in self._held) > HELD:
                passed += self._held.pop(0)[1]
            pressed = [key for key, _ in self._held if key is not None]
            if not pressed:
                passed += self._release()
            elif len(pressed) == len(self._keys):
                self._held.clear()
                return True
        return False

    def _may_begin(self) -> bool:
        pressed = [key for key, _ in self._held if key is not None]
        return pressed == list(self._keys[: len(pressed)])

    def _release(self) -> bytes:
        held, self._held = self._held, []
        return b"".join(token for _, token in held)


def _key(token: bytes) -> int | None:
    """The character of a pressed key; -1 for another key, None for what is no key: one let go of, or a modifier."""
    if len(token) == 1:
        return token[0]
    if match := _KITTY.fullmatch(token):
        code, modifiers = int(match[1]), int(match[2] or 1)
        if match[3] == b"3" or code in _MODIFIER_KEYS:
            return None
    elif match := _XTERM.fullmatch(token):
        code, modifiers = int(match[2]), int(match[1])
    else:
        return -1
    pressed = (modifiers - 1) & ~_LOCKS
    if pressed == _CTRL and 0x40 <= code < 0x80:
        return code & 0x1F
    return code if not pressed and 0x20 < code < 0x7F else -1
