"""What a journal suggests: as YAML that is valid, narrow, and lets the same run through again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from engine.gateway.policy import Policy
from engine.gateway.rules import Rule
from engine.lifecycle.suggestion import allows_all, policy_of, suggest
from engine.lifecycle.traffic import MOST_REQUESTS, traffic_of
from sandboxfile import parse

GROUPS = {
    "npm": (Rule("registry.example", origin="group npm"),),
    "pypi": (Rule("files.example"), Rule("index.example")),
}


def line(host: str | None, verdict: str = "allowed", **fields: Any) -> dict[str, Any]:
    base = {"time": "2026-11-23T13:59:41.254Z", "verdict": verdict, "host": host, "port": 443, "how": "splice"}
    base |= {"rule": None if verdict == "refused" else "endpoints[0]", "reason": "", "bytes_in": 1, "bytes_out": 2}
    if "method" in fields:
        base["how"] = "intercept"
    return {**base, **fields}


def rendered(*lines: dict[str, Any], filed: tuple[dict[str, Any], ...] = ()) -> str:
    text = suggest(traffic_of(lines), filed, GROUPS).render()
    parse(f'version: "1"\nsecrets: {{github: {{env: T}}}}\n{text}', Path("Sandboxfile.yaml"))  # or it raises
    return text


def test_what_is_spliced_is_a_name_and_what_was_looked_into_has_methods_and_paths() -> None:
    text = rendered(
        line("a.example"),
        line("a.example"),
        line("b.example", method="GET", path="/repos/acme/1"),
        line("b.example", method="GET", path="/repos/acme/2"),
        line("b.example", method="POST", path="/graphql"),
        line("db.example", port=8443),
    )
    assert text == (
        "endpoints:\n"
        "  - a.example  # 2 times; what was asked was not looked at\n"
        "  - {host: b.example, methods: [GET], paths: [/repos/acme/*]}  # 2 times\n"
        "  - {host: b.example, methods: [POST], paths: [/graphql]}  # 1 time\n"
        "  - db.example:8443  # 1 time; what was asked was not looked at\n"
    )


def test_the_secret_of_the_file_stays() -> None:
    filed = ({"host": "*.example", "secret": "github", "methods": [], "paths": [], "deny": False, "group": None},)
    text = rendered(line("b.example", method="GET", path="/user"), filed=filed)
    assert "  - {host: b.example, methods: [GET], paths: [/user], secret: github}  # 1 time\n" in text
    other = ({"host": "other.example", "secret": "github"},)
    assert "secret" not in rendered(line("b.example", method="GET", path="/user"), filed=other).partition("#")[0]


def test_groups_are_recognised() -> None:
    text = rendered(
        line("registry.example"),
        line("files.example", rule="group pypi"),
        line("narrow.example", rule="sandbox allow narrow.example"),
    )
    assert text.startswith("endpoints:\n  - npm  # 1 time\n  - pypi  # 1 time\n  - narrow.example")
    looked = rendered(line("registry.example", method="GET", path="/is-number"))
    assert "{host: registry.example, methods: [GET], paths: [/is-number]}" in looked, "narrower than the group"


def test_what_was_refused_is_in_comments() -> None:
    text = rendered(
        line("a.example", method="GET", path="/a", rule="endpoints[0]"),
        line("a.example", "refused", method="POST", path="/a", rule="endpoints[0]", place="f:7", reason="not allowed"),
        line("evil.example", "refused", reason="no endpoint names evil.example:443"),
        line("evil.example", "refused", reason="no endpoint names evil.example:443"),
        line("later.example", "refused", reason="no endpoint"),
        line("later.example", rule="sandbox allow later.example"),
        line("x\n  - injected.example", "refused", reason="is no name"),
        line(None, "refused", reason="no SNI"),
        line("down.example", "failed", rule="endpoints[1]"),
        line(None, "failed", reason="closed before it named a host", rule=None),
    )
    real, _, refused = text.partition("  # refused:\n")
    assert "later.example" in real and "down.example  # 1 time, 1 of them without an answer" in real
    assert refused.splitlines() == [
        "  # - {host: a.example, methods: [POST], paths: [/a]}  # 1 time, last 2026-11-23T13:59:41.254Z: not allowed",
        "  # - evil.example  # 2 times, last 2026-11-23T13:59:41.254Z: no endpoint names evil.example:443",
    ]
    assert "injected" not in text


def test_words_of_the_guest_stay_in_their_line() -> None:
    nasty = "a reason\n  - injected.example\x1b[31m"
    text = rendered(
        line("a.example", "refused", reason=nasty),
        line("b.example", method="GET", path="/x'\"#:{}[]\n  - injected.example"),
        line("b.example", method="GE\nT", path="/ok"),
    )
    assert not any(each.lstrip().startswith("- injected") for each in text.splitlines()) and "\x1b" not in text


def test_plain_http_alone_does_not_have_its_tls_looked_into() -> None:
    plain = {"port": 80, "method": "GET", "path": "/pool/a.deb"}
    text = rendered(line("deb.example", **plain))
    assert "{host: deb.example, port: 80, methods: [GET], paths: [/pool/a.deb]}" in text
    assert "- deb.example  #" in rendered(line("deb.example", **plain), line("deb.example"))


def test_what_the_run_did_without_is_said() -> None:
    filed = ({"host": "a.example"}, {"host": "*.wide.example"}, {"group": "npm"}, {"host": "ads.example", "deny": True})
    text = rendered(line("a.example"), filed=filed)
    assert text.count("not used in this run (a build may need it)") == 2
    assert '"*.wide.example"' in text and ": npm\n" in text and "ads.example" not in text


def test_nothing() -> None:
    assert rendered() == "endpoints: []\n"


def test_the_same_run_passes_again() -> None:
    lines = [
        line("b.example", method=method, path=path)
        for method, path in [("GET", "/a%2Fb"), ("HEAD", "/a"), ("POST", "/x;y=1"), ("PUT", "//odd"), ("OPTIONS", "*")]
    ]
    lines += [line("a.example"), line("c.example", port=8080, method="GET", path="/1")]
    found = suggest(traffic_of(lines), (), GROUPS)
    policy = policy_of(found.endpoints, GROUPS)
    for one in found.endpoints:
        assert one.asked and allows_all(policy, one.asked)
    asked = {each for one in found.endpoints for each in one.asked}
    assert {(each["host"], each["port"], each.get("method"), each.get("path")) for each in lines} == asked
    assert not allows_all(policy, [("b.example", 443, "DELETE", "/a")])
    assert not allows_all(Policy(), [("b.example", 443, None, None)])


def test_a_guest_that_asks_for_everything_costs_no_more(tmp_path: object) -> None:
    lines = (line("b.example", method="GET", path=f"/{number}/x{number}") for number in range(MOST_REQUESTS + 5))
    (found,) = traffic_of(lines)
    assert len(found.requests) == MOST_REQUESTS and found.is_crowded and found.allowed == MOST_REQUESTS + 5
    assert [one.value for one in suggest([found]).endpoints] == ["b.example"]
