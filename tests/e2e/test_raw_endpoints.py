"""Databases, git and ssh by name, and services of the host: what reaches them, what does not, and changing it live."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from far_network import NEW, SSH
from world import UP_S, World

HERE = Path(__file__).parent
FILE = f"""
name: raw
endpoints:
  - {{host: db.example.com, port: 5432, protocol: tcp}}
  - {{host: git.example.com, port: 9418, protocol: tcp}}
{SSH}  - {{host: inner.example.com, port: 22, protocol: tcp}}
  - {{host: localhost, port: 11434, as: ollama}}
  - {{host: localhost, port: 6379, as: cache, protocol: tcp}}
"""
ROW = repr(b"NR\0\0\0\x08\0\0\0\0Z\0\0\0\x05ID\0\0\0\x0c\0\x01\0\0\0\x0242bye")
NOTHING = ("ConnectionRefusedError", "ConnectionResetError", "BrokenPipeError", "TimeoutError", "OSError", "b''")
GREETING = repr(b"SSH-2.0-far_away\r\n")


@pytest.mark.skipif(os.geteuid() != 0, reason="the far network is made by root")
def test_other_protocols_by_name(world: World, tmp_path: Path) -> None:
    project = world.project("")
    (project / "Sandboxfile.yaml").write_text(f'version: "1"{FILE}')
    far = tmp_path / "far"
    far.mkdir()
    make_repository(far)
    scenario = [sys.executable, str(HERE / "raw_endpoints_scenario.py"), str(project)]
    argv = ["unshare", "-m", "-n", sys.executable, str(HERE / "far_network.py"), str(far), *scenario]
    ran = subprocess.run(argv, capture_output=True, text=True, timeout=UP_S)
    assert ran.returncode == 0, ran.stderr
    found = json.loads(ran.stdout.splitlines()[-1])
    assert found["up"][0] == 0, found["up"][1]

    addresses = [line.split()[0] for line in found["names"]["out"].splitlines()]
    assert addresses == ["10.0.2.101", "10.0.2.100", "10.0.2.103", "10.0.2.100"], found["names"]
    assert found["database"] == ROW
    assert found["container"] == ROW, "a container has no other road"
    assert found["git"]["out"] == "hello\n", found["git"]
    assert "remote software version far_away" in found["ssh"]["out"], found["ssh"]
    assert found["ollama"]["out"] == "/api/tags for localhost:11434\n200", found["ollama"]
    assert found["cache"] == repr(b"+PONG\r\n")

    for how, got in found["undeclared"].items():
        assert got in NOTHING or (
            how == "its loopback by name" and "port 9999 in a request that came to port 11434" in got
        ), (how, got)
    assert "undeclared" not in (far / "seen").read_text().split()

    live = found["live"]
    assert live["open"].strip() == GREETING and live["removed"][0] == 0, live
    assert live["cut"].strip() == "the end b''", "the open connection is cut"
    assert live["after"][0] in ("ConnectionRefusedError", "TimeoutError") and live["after"][1].startswith("10.0.2.100")
    assert live["again"][0] == 0 and live["again"][2] == GREETING, live["again"]
    ((path, how, what),) = live["new"]
    assert (path, how) == ("endpoints", "new machine") and NEW.split()[2].rstrip(",") in what

    lines = [json.loads(line) for line in found["journal"].splitlines()]
    raw = [line for line in lines if line["protocol"] == "tcp"]
    assert {(line["host"], line["port"], line["verdict"]) for line in raw} == {
        ("db.example.com", 5432, "allowed"),
        ("git.example.com", 9418, "allowed"),
        ("ssh.example.com", 22, "allowed"),
        ("cache", 6379, "allowed"),
        ("inner.example.com", 22, "refused"),
    }
    (refused,) = (line for line in raw if line["verdict"] == "refused")
    assert "10.99.0.1: private address" in refused["reason"] and refused["place"].startswith("Sandboxfile.yaml:")
    database = next(line for line in raw if line["host"] == "db.example.com")
    assert (
        database["bytes_in"] == len(ast.literal_eval(ROW))
        and database["bytes_out"] > 40
        and database["duration_ms"] >= 0
    )
    assert found["down"] == 0


def make_repository(directory: Path) -> None:
    script = (
        "git init -q work && cd work && echo hello > hello && git add hello && git -c user.name=a -c user.email=a@b"
        " commit -q -m first && git clone -q --bare . ../repo.git"
    )
    subprocess.run(["sh", "-c", script], cwd=directory, check=True)
