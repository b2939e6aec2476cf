"""Where the secrets of one sandbox are: what `up` tells its supervisor about them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from engine.secrets.sources import Source


@dataclass(frozen=True)
class SecretPlaces:
    """`sources` are the places of each secret, in the order in which they are looked at.

    `environment` is what of the user's environment reading them needs. It holds values: it travels over a socket
    between two processes of the user, and is neither shown nor written anywhere. So do `answers`: what a command has
    just said is not asked for a second time, as it may ask the user. `missing` had no value when they were looked at:
    the sandbox starts without, and what the user keeps under their name later counts from then on.
    """

    sources: Mapping[str, tuple[Source, ...]] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    answers: Mapping[str, str] = field(default_factory=dict, repr=False)
    missing: tuple[str, ...] = ()
