"""A credential of the user's is put into the agent's requests on the host, and is nowhere in the machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid
from pathlib import Path

import pytest
from world import UP_S, World

HERE = Path(__file__).parent
KEY = "sk-ant-api03-real-and-never-in-the-guest"
FILE = """
name: credited
mounts: [.:/workspace]
secrets: {{anthropic: {{env: ANTHROPIC_API_KEY}}}}
endpoints:
  - {{host: api.anthropic.com, secret: anthropic{rules}}}
  - other.example.com
services:
  web: {{image: "localhost/debian:13", command: sleep 1000000, volumes: ["/usr:/usr:ro"], labels: {{run: {run}}}}}
"""


# A secret alone intercepts nothing in builds, and the services of their snapshot need the certificate all the same.
@pytest.mark.parametrize("rules", [", methods: [POST], paths: [/v1/messages]", ""], ids=["narrow", "wide"])
@pytest.mark.skipif(os.geteuid() != 0, reason="the vendor's network is made by root")
def test_the_real_key_is_the_gateways_alone(world: World, tmp_path: Path, rules: str) -> None:
    project = world.project(FILE.format(rules=rules, run=uuid.uuid4().hex))
    vendor = tmp_path / "vendor"
    vendor.mkdir()
    scenario = [sys.executable, str(HERE / "credentials_scenario.py"), str(project)]
    argv = ["unshare", "-m", "-n", sys.executable, str(HERE / "vendor_network.py"), str(vendor), *scenario]
    env = {**os.environ, "ANTHROPIC_API_KEY": KEY}
    ran = subprocess.run(argv, capture_output=True, text=True, timeout=UP_S, env=env)
    assert ran.returncode == 0, ran.stderr
    found = json.loads(ran.stdout.splitlines()[-1])
    assert found["up"][0] == 0, found["up"][1]
    got = [json.loads(line) for line in (vendor / "requests").read_text().splitlines()]

    held = found["held"]["out"].strip()
    assert held and held != KEY
    allowed = found["allowed"]["out"]
    assert allowed.startswith("POST /v1/messages 2\n200"), found["allowed"]
    assert KEY not in json.dumps({name: value for name, value in found.items() if name != "up"})
    assert found["python"]["out"] == "200\n", found["python"]
    # It has been running since before the snapshot, with the guest's programs in it and nothing of its own.
    assert found["service"]["out"] == "POST /v1/messages 2\n200", found["service"]
    if rules:
        assert found["path"]["out"].endswith("403") and "/v1/files" in found["path"]["out"]
        assert found["method"]["out"].endswith("403")
    # What is spliced nobody looks into: the other host gets what the guest has, which is nothing of value.
    assert found["elsewhere"]["out"].endswith("200") and found["spliced"]["out"].endswith("200")

    at_vendor = [one for one in got if one["host"] == "api.anthropic.com"]
    asked = [(one["method"], one["path"]) for one in at_vendor]
    others = [] if rules else [("POST", "/v1/files"), ("DELETE", "/v1/messages")]
    assert asked == [("POST", "/v1/messages")] * 3 + others
    for one in at_vendor:
        headers = [(name.lower(), value) for name, value in one["headers"]]
        assert [value for name, value in headers if name == "x-api-key"] == [KEY]
        assert not [value for name, value in headers if name == "authorization"]
    assert KEY not in json.dumps([one for one in got if one["host"] != "api.anthropic.com"])

    lines = [json.loads(line) for line in found["journal"].splitlines()]
    assert {(line["host"], line["verdict"]) for line in lines} >= {
        ("api.anthropic.com", "allowed"),
        ("api.anthropic.com", "refused" if rules else "allowed"),
        ("other.example.com", "allowed"),
    }
    assert found["look"]["out"] == "" and found["look"]["code"] in (1, 2), "nothing of the guest holds it"
    assert found["kept"] == [] and found["down"] == 0
