"""A value in a variable of the user's: no command that shows or keeps a plan shows or keeps it."""

from __future__ import annotations

import base64
import json

import pytest
from cli_world import CommandLine

from engine.state.layout import Layout

VALUE = "sk-ant-api03-0123456789abcdef"
FILE = """version: "1"
mounts: [.:/workspace]
endpoints:
  - {host: api.anthropic.com, secret: anthropic}
  - {host: api.weather.example, secret: weather, secret_in: query}
secrets: {anthropic: {env: MY_KEY}, weather: {file: ./weather}}
"""


@pytest.mark.parametrize(
    "argv",
    [
        ("plan",),
        ("plan", "--json"),
        ("config",),
        ("config", "--origins"),
        ("config", "--json"),
        ("graph",),
        ("graph", "--json"),
        ("validate", "--json"),
        ("secret", "ls", "--json"),
        ("endpoints", "show"),
    ],
    ids=" ".join,
)
def test_nothing_that_is_shown_or_kept_has_it(sandbox: CommandLine, layout: Layout, argv: tuple[str, ...]) -> None:
    sandbox.file(FILE)
    (sandbox.project / "weather").write_text(f"{VALUE}-2")
    (sandbox.project / "weather").chmod(0o600)
    ran = sandbox(*argv, MY_KEY=VALUE)
    assert ran.code in (0, 1, 2), ran.err
    files = [path for root in (layout.state, layout.cache) if root.exists() for path in root.rglob("*")]
    kept = "".join(path.read_text(errors="replace") for path in files if path.is_file())
    shown = "\n".join((ran.out, ran.err, *sandbox.effects(), kept))
    for form in (VALUE, base64.b64encode(VALUE.encode()).decode(), VALUE.encode().hex(), json.dumps(VALUE)):
        assert form not in shown
