"""Services that the quickstart does not have: live bind mounts, files of their own, failures."""

from __future__ import annotations

from world import UP_S, World

BASE = "image: localhost/debian:13"


def test_a_service_on_a_live_mount_starts_after_it(world: World) -> None:
    project = world.project(
        f"""
        name: late
        mounts: [.:/workspace]
        services:
          early: {{{BASE}, command: [sleep, infinity]}}
          live:
            {BASE}
            volumes: ["./shared:/shared"]
            environment: {{WORD: first}}
            env_file: [extra.env]
            command: [sh, -c, "cat /shared/from-host; echo $$WORD $$EXTRA > /shared/from-service; exec sleep infinity"]
            healthcheck: {{test: [CMD, test, -e, /shared/from-service], interval: 1s, retries: 30}}
        """,
        {"shared/from-host": "seen by the service\n", "extra.env": "EXTRA=file\n"},
    )
    up = world.up(project)
    assert "live: healthy" in up.out and "early: running" in up.out
    assert (project / "shared" / "from-service").read_text() == "first file\n"
    assert "seen by the service" in world.sandbox("logs", "live", cwd=project).ok().out
    world.sandbox("down", cwd=project).ok()

    # Another environment is another container, and neither an image nor a snapshot has to be made for it.
    text = (project / "Sandboxfile.yaml").read_text().replace("WORD: first", "WORD: second")
    (project / "Sandboxfile.yaml").write_text(text)
    world.up(project)
    assert (project / "shared" / "from-service").read_text() == "second file\n"


def test_a_bind_that_no_mount_covers_is_refused(world: World) -> None:
    project = world.project(
        f"name: uncovered\nmounts: [./inside:/workspace]\nservices:\n  web: {{{BASE}, volumes: ['./outside:/data']}}\n",
        {"inside/x": "", "outside/y": ""},
    )
    ran = world.sandbox("up", "-d", "--yes", cwd=project)
    assert ran.code == 2 and "no mount brings into the sandbox" in ran.err


def test_an_unhealthy_service_shows_why(world: World) -> None:
    project = world.project(
        f"""
        name: sick
        mounts: [.:/workspace]
        services:
          web:
            {BASE}
            command: [sh, -c, "echo it-says-this; exec sleep infinity"]
            healthcheck: {{test: [CMD, "false"], interval: 1s, retries: 2}}
        """
    )
    ran = world.sandbox("up", "-d", "--yes", "--progress", "plain", cwd=project, timeout_s=1800)
    assert ran.code == 1
    assert "unhealthy" in ran.err and "it-says-this" in ran.err
    assert world.listed(project) == []


def test_an_image_that_no_endpoint_lets_through_says_what_to_add(world: World) -> None:
    project = world.project("name: pulls\nservices: {web: {image: 'nginx:1'}}\n")
    ran = world.sandbox("up", "-d", "--yes", "--progress", "plain", cwd=project, timeout_s=UP_S)
    assert ran.code == 1 and "pulling images failed" in ran.err
    assert "the gateway refused registry-1.docker.io; to allow it: sandbox add endpoint docker-hub" in ran.err
    assert "warning: services.web.image: comes from Docker Hub, which no endpoint allows" in ran.err
    assert world.listed(project) == []
