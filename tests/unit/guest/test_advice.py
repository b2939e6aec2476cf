"""What a failure says about what the gateway refused meanwhile."""

from __future__ import annotations

from typing import cast

import pytest

from engine.errors import EngineError
from engine.gateway.server import Gateway
from engine.guest.advice import GROUPS, advice_on_refusals, advise
from sandboxfile.names import NAMED
from sandboxfile.presets.definition import load_preset
from sandboxfile.presets.expansion import hosts_of
from sandboxfile.sections.endpoints import Endpoint
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
            "the gateway refused auth.docker.io; to allow it: sandbox add endpoint docker-hub",
        ),
        (
            [("cdn03.quay.io", 443), ("quay.io", 443), ("a.example", 443), ("proxy.golang.org", 443)],
            "the gateway refused cdn03.quay.io, quay.io, a.example, proxy.golang.org; to allow them: "
            "sandbox add endpoint quay a.example go",
        ),
        ([("notquay.io", 443)], "the gateway refused notquay.io; to allow it: sandbox add endpoint notquay.io"),
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


@pytest.mark.parametrize("group", GROUPS)
def test_the_groups_are_those_of_the_language(group: str) -> None:
    """The supervisor does not load the language for them."""
    hosts = hosts_of(Endpoint.model_validate(group))
    assert set(GROUPS[group]) <= set(hosts)
    assert set(hosts) - set(GROUPS[group]) <= {"api.github.com", "codeload.github.com"}


def test_every_group_for_pulling_or_fetching_is_advised() -> None:
    names = {name for name in NAMED if load_preset(name).default in ("pull", "read")} - {"vscode"}
    assert set(GROUPS) == names
