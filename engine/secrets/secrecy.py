"""Which values are neither shown nor kept where they are not needed: the one home of that judgement.

What a plan prints, many can read, and what it remembers lies around for long. Values of an environment, and arguments
of a build, are never in it: their names are, with a digest. Of other values the name decides.
`sandbox config` shows every value to whoever asks for it.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator, Mapping

from engine.state.keys import KEY_LENGTH, content_key
from sandboxfile.positions import KeyPath

_CREDENTIAL = re.compile(
    r"(^|_)(TOKENS?|SECRETS?|PASSWORDS?|PASSWD|PASS|PASSPHRASE|KEYS?|APIKEY|CREDENTIALS?|AUTH|PAT|COOKIE|DSN)(_|$)"
    r"|DATABASE_URL",
    re.IGNORECASE,
)
_PRIVATE = re.compile("pass|secret|token|key|credential", re.IGNORECASE)
_ENVIRONMENTS = ("env", "environment")
_DIGEST = re.compile(f"[0-9a-f]{{{KEY_LENGTH}}}")


def is_credential(name: str) -> bool:
    """Whether a variable of this name holds a credential, by the looks of the name."""
    return bool(_CREDENTIAL.search(name))


def is_private_name(name: str) -> bool:
    """Whether what goes by this name is rather not shown: in doubt it is not."""
    return bool(_PRIVATE.search(name) or _CREDENTIAL.search(name))


def is_private_place(path: KeyPath) -> bool:
    """The same for a place in a file."""
    return is_of_environment(path) or is_private_name(str(path[-1]))


def is_of_environment(path: KeyPath) -> bool:
    """Whether it is an environment, or the arguments of a build, or something in one."""
    if path[:1] == ("secrets",):  # they name variables, and have no values
        return False
    return any(part in _ENVIRONMENTS for part in path) or ("build", "args") in itertools.pairwise(path)


def masked_environment(variables: Mapping[str, object]) -> dict[str, str]:
    """The variables with a digest in the place of each value, which says whether it is another."""
    return {name: content_key("env", name, str(value)) for name, value in variables.items()}


def masked_inputs(inputs: Mapping[str, str]) -> dict[str, str]:
    """What a build node was made of, as it is kept and shown. Of what is masked already it makes the same."""
    return dict(_masked(inputs))


def _masked(inputs: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    for name, text in inputs.items():
        if name == "env":
            yield from _masked_environment(text)
        elif name in ("images", "services") and not _DIGEST.fullmatch(text):  # whole configurations of Compose
            yield name, content_key(name, text)
        else:
            yield name, text


def _masked_environment(text: str) -> Iterator[tuple[str, str]]:
    try:
        variables = json.loads(text)
    except ValueError:
        variables = None
    if not isinstance(variables, dict):  # nothing that we have written
        yield "env", text if _DIGEST.fullmatch(text) else content_key("env", text)
        return
    yield from ((f"env {name}", digest) for name, digest in masked_environment(variables).items())
