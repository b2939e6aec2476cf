"""Files of a share that the guest cannot change, although it may write all around them.

They are paths below the shared directory. Each request that would change something is compared with what is at these
paths at that very moment, by device and inode. So it makes no difference under which name, link or open handle the
guest comes, whether the host has just put a new file there, or whether there is none yet.
"""

from __future__ import annotations

import errno
import os
import stat
import unicodedata

# Default_Ignorable_Code_Point beside the category Cf (Unicode's DerivedCoreProperties.txt): ext4 and f2fs leave them
# out when they compare names without letter case.
IGNORABLE = (
    ("\u034f", "\u034f"), ("\u115f", "\u1160"), ("\u17b4", "\u17b5"), ("\u180b", "\u180f"), ("\u2060", "\u206f"),
    ("\u3164", "\u3164"), ("\ufe00", "\ufe0f"), ("\uffa0", "\uffa0"), ("\ufff0", "\ufff8"),
    ("\U000e0000", "\U000e0fff"),
)  # fmt: skip


def refusal(number: int = errno.EROFS) -> OSError:
    return OSError(number, os.strerror(number))


def folded(name: str) -> str:
    """One form for all spellings that some file system takes for one name: letter case, composed letters, characters
    that nobody sees, and dots and blanks at the end."""
    return same_letters(name).rstrip(". ")


def same_letters(name: str) -> str:
    """`folded`, with the dots and blanks at the end."""
    if name.isascii():
        return name.lower()
    seen = "".join(each for each in name if not _is_ignorable(each))
    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", seen).casefold())


def _is_ignorable(character: str) -> bool:
    if character.isascii():
        return False
    return unicodedata.category(character) == "Cf" or any(low <= character <= high for low, high in IGNORABLE)


class Protection:
    """`paths` are relative to the directory `root`, a descriptor. A path may lead to nothing yet."""

    def __init__(self, root: int, paths: tuple[str, ...]) -> None:
        self._root = root
        self._paths = tuple(path.strip("/") for path in paths)
        self.active = bool(paths)
        self._folded = frozenset("/".join(map(folded, path.split("/"))) for path in self._paths)
        # Each directory above a protected path, with the names in it that lead there.
        self._above: dict[str, dict[str, bool]] = {}
        for path in self._paths:
            parts = path.split("/")
            for at in range(len(parts)):
                names = self._above.setdefault("/".join(parts[:at]), {})
                last = at == len(parts) - 1
                names[folded(parts[at])] = names.get(folded(parts[at]), False) or last

    def check_file(self, identity: tuple[int, int]) -> None:
        """Raises EROFS when this is a protected file now."""
        for path in self._paths:
            if self._identity(path) == identity:
                raise refusal()

    def check_path(self, path: str) -> None:
        """Raises EROFS for what lies in a protected directory. `path` are the names that lead there from the root."""
        at = path.find("/")
        while at >= 0:
            if "/".join(map(folded, path[:at].split("/"))) in self._folded:
                raise refusal()
            at = path.find("/", at + 1)

    def check_name(self, directory: tuple[int, int], name: str, *, makes_directory: bool = False) -> None:
        """Raises EROFS or EBUSY when `name` in `directory` may not be made, removed or replaced.

        A directory on the way to a protected path stays where it is; where there is none, only a directory may be made.
        """
        if not self._paths:
            return
        for path, names in self._above.items():
            if (is_file := names.get(folded(name))) is None or self._identity(path) != directory:
                continue
            if is_file:
                raise refusal()
            if not makes_directory:
                raise refusal(errno.EBUSY)

    def check_moved(self, identity: tuple[int, int]) -> None:
        """Raises EBUSY when this is a directory on the way to a protected path, whatever it is called; EROFS for a
        file."""
        self.check_file(identity)
        for path in self._above:
            if path and self._identity(path) == identity:
                raise refusal(errno.EBUSY)

    def begins_way(self, directory: tuple[int, int], name: str) -> bool:
        """Whether a directory `name` in `directory` would lead to a protected path."""
        return any(
            names.get(folded(name)) is False and self._identity(path) == directory
            for path, names in self._above.items()
        )

    def leads(self, identity: tuple[int, int]) -> bool:
        """Whether this is a directory on the way to a protected path, the shared one included."""
        return any(self._identity(path) == identity for path in self._above)

    def _identity(self, path: str) -> tuple[int, int] | None:
        try:
            st = os.stat(path, dir_fd=self._root, follow_symlinks=False) if path else os.fstat(self._root)
        except OSError:
            return None
        if path and stat.S_ISLNK(st.st_mode) and path in self._above:
            return None  # a link in a directory's place: what lies behind it is another path
        return st.st_dev, st.st_ino
