"""What a failure says about what the gateway refused meanwhile."""

from __future__ import annotations

import pytest

from engine.advice import advise


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
