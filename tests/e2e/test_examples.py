"""Each example does what its README says. Quickstart has a file of its own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from world import UP_S, World

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
MADE_BY_RUNS = ("report.*", "RESULT.txt", "index.html", "__pycache__", "node_modules")


def copied(world: World, name: str) -> Path:
    project = world.base / name
    shutil.copytree(EXAMPLES / name, project, ignore=shutil.ignore_patterns(*MADE_BY_RUNS))
    return project


def test_each_example_is_tested_and_explained() -> None:
    tests = Path(__file__).read_text() + Path(__file__).with_name("test_quickstart.py").read_text()
    for folder in EXAMPLES.iterdir():
        assert f'"{folder.name}"' in tests, folder.name
        assert folder.name == "quickstart" or (folder / "README.md").is_file()


def test_web_database(world: World) -> None:
    project = copied(world, "web-database")
    up = world.up(project)
    assert "db: healthy" in up.out and "127.0.0.1:8081 -> 8081" in up.out

    said = world.sandbox("exec", "--", "./agent.sh", cwd=project).ok().out
    assert json.loads(said.splitlines()[0]) == {"id": 1, "text": "by agent"}
    assert said.splitlines()[1] == "1|by agent"
    with urllib.request.urlopen("http://localhost:8081/notes", data=b"by me", timeout=30) as answer:
        assert json.load(answer) == {"id": 2, "text": "by me"}
    assert world.run(project, "docker compose exec -T db psql -U shop -d postgres -Atc 'SELECT 1'").ok().out == "1\n"

    world.sandbox("down", cwd=project).ok()
    again = world.up(project)
    assert "db: healthy" in again.out
    notes = world.run(project, "docker compose exec -T db psql -U shop -d postgres -Atc 'SELECT count(*) FROM notes'")
    assert notes.ok().out == "0\n"  # what an earlier machine wrote is gone with it


def test_data_science(world: World) -> None:
    project = copied(world, "data-science")
    ran = world.sandbox("up", "--yes", "--progress", "plain", cwd=project, timeout_s=UP_S).ok()
    assert ran.out.startswith("report.md: 3 months of 92 days, with DuckDB ")
    report = (project / "report.md").read_text()
    assert report.startswith("| month | days |") and "| 2026-04 | 30 |" in report
    assert (project / "report.md").stat().st_uid == project.stat().st_uid

    touched = world.sandbox("exec", "--", "sudo", "touch", "/data/mine", cwd=project)
    assert touched.code == 1 and "Read-only file system" in touched.err
    assert not (project / "data" / "mine").exists()

    plan = world.sandbox("plan", cwd=project).ok().out
    assert "pip install" in plan and " to build" not in plan.splitlines()[-1].replace("0 to build", "")
    (project / "requirements.txt").write_text("duckdb\n")
    assert "inputs requirements.txt changed" in world.sandbox("plan", cwd=project).ok().out


def test_monorepo(world: World) -> None:
    project = copied(world, "monorepo")
    world.up(project)
    assert {item["name"] for item in world.listed(project)} == {"monorepo-api", "monorepo-site"}
    api = world.sandbox("exec", "monorepo-api", "--", "./agent.sh", cwd=project).ok()
    assert "2 passed" in api.out
    site = world.sandbox("exec", "monorepo-site", "--", "./agent.sh", cwd=project).ok()
    assert site.out == "index.html: 3 prices\n" and "<td>4.00 EUR</td>" in (project / "site/index.html").read_text()
    for part, other in (("api", "site"), ("site", "api")):
        seen = (project / part / "RESULT.txt").read_text().split()
        assert seen[0] == f"monorepo-{part}" and "agent.sh" in seen
        files = world.sandbox("exec", f"monorepo-{part}", "--", "find", "/workspace", "/prices", cwd=project).ok().out
        assert not any(
            path.name in files for path in (EXAMPLES / "monorepo" / other).iterdir() if path.name != "agent.sh"
        )
        wrote = world.sandbox("exec", f"monorepo-{part}", "--", "sudo", "touch", "/prices/mine", cwd=project)
        assert wrote.code == 1 and "Read-only file system" in wrote.err
    world.sandbox("down", cwd=project).ok()
    assert world.listed(project) == []


@pytest.fixture
def job_environment(tmp_path: Path) -> dict[str, str]:
    """`sandbox` on the PATH, as a CI server has it."""
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "sandbox").write_text(f'#!/bin/sh\nexec {sys.executable} -m engine.cli.main "$@"\n')
    (programs / "sandbox").chmod(0o755)
    return {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}"}


def test_ci(world: World, job_environment: dict[str, str]) -> None:
    project = copied(world, "ci")

    def job() -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["./job.sh"],
            cwd=project,
            env=job_environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=UP_S,
        )

    done = job()
    assert done.returncode == 0, done.stderr
    assert "✔ words for a duration" in done.stdout
    assert (project / "report.xml").read_text().startswith('<?xml version="1.0" encoding="utf-8"?>\n<testsuites>')
    assert world.listed(project) == []

    source = project / "src" / "age.js"
    source.write_text(source.read_text().replace("just now", "now"))
    done = job()
    assert done.returncode == 1 and "✖ words for a duration" in done.stdout
    assert "<failure" in (project / "report.xml").read_text()
    assert world.listed(project) == []


def test_offline(world: World) -> None:
    project = copied(world, "offline")
    ran = world.sandbox("up", "--yes", "--progress", "plain", cwd=project, timeout_s=UP_S).ok()
    assert "test_no_zero" in ran.err and "OK" in ran.err  # unittest's report
    refused = world.sandbox("exec", "--", "curl", "-sS", "http://example.com/", cwd=project)
    assert "sandbox: refused example.com:80: no endpoint names example.com:80" in refused.out
    address = world.sandbox("exec", "--", "curl", "-sS", "--max-time", "5", "http://93.184.215.14/", cwd=project)
    assert address.code == 7 and "Could not connect" in address.err
    assert [line["verdict"] for line in world.journal(project)] == ["refused"]


def test_a_starter_file_runs(world: World) -> None:
    """`init` and `up`, with what a project shows: a lock file, and a Compose file whose service is there already."""
    project = world.base / "started"
    project.mkdir()
    (project / "compose.yaml").write_text(
        "services: {side: {image: 'localhost/debian:13', command: [sleep, infinity]}}\n"
    )
    world.sandbox("init", cwd=project).ok()
    up = world.up(project)
    assert "side: running" in up.out
    assert world.run(project, "ls").ok().out.split() == ["Sandboxfile.yaml", "compose.yaml"]
