"""What a refused request is told to change: what its rule does not say yet, and nothing that it says already."""

from __future__ import annotations

import pytest

from engine.gateway.policy import Policy
from engine.gateway.refusal import Refusal
from engine.gateway.rules import Rule

HOST = "api.example.com"
EVERY = "`methods` must name every method that the request names, in headers and query too"
BOTH = Rule(HOST, methods=("GET",), paths=("/ok/**",), place="Sandboxfile.yaml:7")


@pytest.mark.parametrize(
    ("rule", "method", "target", "overrides", "missing"),
    [
        (BOTH, "GET", "/no", (), "`paths` must match /no"),
        (BOTH, "HEAD", "/no", (), "`paths` must match /no"),
        (BOTH, "POST", "/ok/a?q=1", (), "`methods` must name POST"),
        (BOTH, "POST", "/no%2Fa", (), "`methods` must name POST and `paths` must match /no%2Fa"),
        (Rule(HOST, methods=("GET",), place="Sandboxfile.yaml:7"), "POST", "/no", (), "`methods` must name POST"),
        (BOTH, "GET", "/ok/a", ("DELETE",), EVERY),
    ],
)
def test_advice_names_what_is_missing(
    rule: Rule, method: str, target: str, overrides: tuple[str, ...], missing: str
) -> None:
    decision = Policy([rule]).judge(HOST, 443, method, target, overrides)
    assert not decision.allowed
    said = Refusal(403, decision.reason, HOST, 443, decision).advice()
    assert said == f"To allow it, change Sandboxfile.yaml:7: {missing}."
