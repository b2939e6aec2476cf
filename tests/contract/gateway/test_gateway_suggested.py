"""What a journal suggests after a run is what the same run passes again with, and another one does not."""

from __future__ import annotations

from gateway_world import in_loop
from inside_world import CLOSE, HOST, LOOK, InsideWorld, get, inside_world

from engine.lifecycle.suggestion import policy_of, suggest
from engine.lifecycle.traffic import traffic_of

RUN = [
    *(("GET", f"/v1/items/{number}?page={number}") for number in range(3)),
    ("HEAD", "/v1/items/7"),
    ("POST", "/v1/messages?beta=true"),
    ("GET", "/@scope%2fname"),
    ("GET", "/matrix;v=1/x"),
    ("GET", "/%61bc"),
    ("DELETE", "/v1/items/7f3c9a1b2d"),
]


async def answers(w: InsideWorld, requests: list[tuple[str, str]]) -> list[bytes]:
    return [(await w.ask(get(path, CLOSE, method=method))).split(b" ")[1] for method, path in requests]


def test_the_same_run_passes_with_what_is_suggested() -> None:
    async def scenario() -> None:
        async with inside_world(LOOK) as w:
            assert await answers(w, RUN) == [b"200"] * len(RUN)
            lines = await w.quiet()
        found = suggest(traffic_of(lines))
        assert [one.value for one in found.endpoints] == [
            {"host": HOST, "methods": ["DELETE", "GET"], "paths": ["/v1/items/*"]},
            {
                "host": HOST,
                "methods": ["GET"],
                "paths": ["/@scope%2Fname", "/@scope/name", "/abc", "/matrix/x", "/matrix;v=1/x"],
            },
            {"host": HOST, "methods": ["POST"], "paths": ["/v1/messages"]},
        ]
        async with inside_world(*policy_of(found.endpoints, {}).rules) as w:
            assert await answers(w, RUN) == [b"200"] * len(RUN)
            others = [("DELETE", "/v1/messages"), ("GET", "/v1/messages"), ("GET", "/v1/items/1/x"), ("PUT", "/abc")]
            assert await answers(w, others) == [b"403"] * len(others)
            assert len(w.recorder.requests) == len(RUN)

    in_loop(scenario())
