"""What to do about hosts that the gateway refused."""

from __future__ import annotations

from engine.guest.advice import DOCKER_HUB, advise
from sandboxfile.compose import images


def test_the_hosts_of_docker_hub_are_those_of_the_language() -> None:
    assert DOCKER_HUB == images.DOCKER_HUB


def test_one_host_of_docker_hub_brings_the_others() -> None:
    assert advise([(DOCKER_HUB[0], 443)]) == (
        f"the gateway refused {DOCKER_HUB[0]}; to allow them: sandbox add endpoint {' '.join(DOCKER_HUB)}"
    )


def test_a_port_beside_the_webs_is_named() -> None:
    said = advise([("db.example.com", 5432), ("api.example.com", 443), ("api.example.com", 80)])
    assert said.endswith("to allow them: sandbox add endpoint db.example.com:5432 api.example.com")
