"""A user changes what a running machine may reach, and a run's own journal is the file with which it passes again."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from world import UP_S, World

HERE = Path(__file__).parent
FILE = """
name: lived
endpoints:
  - {host: api.anthropic.com, methods: [GET, POST]}
  - other.example.com
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="the vendor's network is made by root")
def test_it_is_lived_with(world: World, tmp_path: Path) -> None:
    project = world.project(FILE)
    vendor = tmp_path / "vendor"
    vendor.mkdir()
    scenario = [sys.executable, str(HERE / "living_scenario.py"), str(project)]
    argv = ["unshare", "-m", "-n", sys.executable, str(HERE / "vendor_network.py"), str(vendor), *scenario]
    ran = subprocess.run(argv, capture_output=True, text=True, timeout=UP_S)
    assert ran.returncode == 0, ran.stderr
    found = json.loads(ran.stdout.splitlines()[-1])
    assert found["up"][0] == 0, found["up"][1]

    # For a while: let through, and cut when the time is over.
    assert found["refused"] in ("000\n", "403\n") and found["for"] == "lived: api.github.com is allowed for 20s\n"
    assert found["while"] == ["open\n", "cut\n"] and found["after"] == found["refused"]
    # Denied: what is open is cut, what comes next is refused.
    assert found["denied"] == ["open\n", "cut\n"] and "; 1 open connection was cut\n" in found["deny"]
    assert found["still"] in ("000\n", "403\n") and "the file decides" in found["end"]

    assert found["allow"].startswith("lived: api.github.com is allowed until the sandbox ends")
    assert [(row["name"], row["deny"]) for row in found["ls"]] == [("api.github.com", False)]
    assert found["run"] == "200\n" * 6
    assert found["suggested"].splitlines()[0] == "endpoints:"
    assert "- {host: api.anthropic.com, methods: [GET], paths: [/v1/items/*]}" in found["suggested"]
    assert "- {host: api.anthropic.com, methods: [POST], paths: [/v1/messages]}" in found["suggested"]
    assert "  GET /v1/items/* (3)" in found["summary"]

    assert found["again"][0] == 0, found["again"][1]
    assert found["run again"] == "200\n" * 6 and found["refused again"] == ""
    assert found["others"] == "403\n" and found["down"] == 0
