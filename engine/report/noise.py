"""Lines of installers that say only that they go on: in a log nobody reads them."""

from __future__ import annotations

import re

_NOISE = re.compile(
    r"""
      \(Reading\ database\ \.\.\.
    | (Selecting\ previously\ unselected\ package|Preparing\ to\ unpack|Unpacking|Setting\ up)\ \S
    | Processing\ triggers\ for\ \S
    | (Get|Hit|Ign):\d+\ \S
    | Reading\ (package\ lists|state\ information)\.\.\.
    | Building\ dependency\ tree\.\.\.
    | \#\d+\ (sha256:[0-9a-f]+\ |extracting\ sha256:|transferring\ |\.\.\.$)
    | \ *[0-9a-f]{12}:?\ (Pulling\ fs\ layer|Waiting|Downloading|Verifying|Download\ complete|Extracting|Pull\ complete)
    | .*\d{1,3}%\ *$
    | .*[\u2501\u2588=#-]{8,}>?\ *\|?\ *\d
    """,
    re.VERBOSE,
)


def is_noise(line: str) -> bool:
    """Whether a cleaned line is about the progress of apt, dpkg, Docker or a download alone."""
    return bool(_NOISE.match(line))
