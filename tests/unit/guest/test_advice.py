"""What a failure says about what the gateway refused meanwhile."""

from __future__ import annotations

from typing import cast

import pytest

from engine.errors import EngineError
from engine.gateway.server import Gateway
from engine.guest.advice import DOCKER_HUB, advice_on_refusals, advise
from sandboxfile.compose import images
from vmm.channel.errors import GuestError


@pytest.mark.parametrize(
    ("refused", "advice"),
    [
        ([("a.example", 443)], "the gateway refused a.example; to allow it: sandbox add endpoint a.example"),
        (
            [("a.example", 80), ("a.example", 443), ("b.example", 22)],
            "the gateway refused a.example, b.example:22; to allow them: sandbox add endpoint a.example b.example:22",
        ),
        (
            [("auth.docker.io", 443)],
            "the gateway refused auth.docker.io; to allow them: "
            "sandbox add endpoint auth.docker.io registry-1.docker.io production.cloudflare.docker.com",
        ),
    ],
)
def test_advice(refused: list[tuple[str, int]], advice: str) -> None:
    assert advise(refused) == advice


def test_it_stays_short() -> None:
    text = advise([(f"h{number}.example", 443) for number in range(50)])
    assert "h4.example and 45 more" in text and text.endswith("h8.example h9.example")


class Refusing:
    """A gateway that refused something meanwhile."""

    def take_unnamed(self) -> list[tuple[str, int]]:
        return [("a.example", 443)]


@pytest.mark.parametrize("error", [EngineError("failed", "why", "look"), GuestError("failed", "why", "look")])
def test_also_a_failure_of_the_guest_is_advised_on(error: EngineError | GuestError) -> None:
    """A step's timeout, a user that does not exist, a copy that failed."""
    with pytest.raises(EngineError) as caught, advice_on_refusals(cast("Gateway", Refusing())):
        raise error
    assert (caught.value.brief, caught.value.details) == ("failed", "why")
    assert caught.value.hint == "the gateway refused a.example; to allow it: sandbox add endpoint a.example\nlook"


def test_the_hosts_of_docker_hub_are_those_of_the_language() -> None:
    """The supervisor does not load the language for them."""
    assert DOCKER_HUB == images.DOCKER_HUB
