"""What NanoClaw asks of the Docker in a sandbox: it runs one container for each of its sessions.

Its page on sandboxes lists what it misses elsewhere. Certificates and the way out in builds and containers, without a
variable or an argument, and hosts that are not looked into, are in test_docker_matrix.py and test_certificate.py; what
it mounts is here. NanoClaw itself was not run: it cannot be downloaded from npm.
"""

from __future__ import annotations

from world import World

IMAGE = "localhost/debian:13"
RUN = "docker run --rm --network none"
# A need -> a script of the agent's, and what it prints.
NEEDS = {
    "a file that is hidden by /dev/null": (
        f"{RUN} -v /workspace:/w -v /dev/null:/w/.env:ro {IMAGE} sh -c 'wc -c < /w/.env'",
        "0",
    ),
    "a directory beside the workspace": (
        f"mkdir -p ~/groups/main && echo hello > ~/groups/main/said && {RUN} -v ~/groups/main:/g {IMAGE} cat /g/said",
        "hello",
    ),
    "a directory of the system, read-only": (
        f"{RUN} -v /usr/share:/s:ro {IMAGE} sh -c 'test -d /s/doc && ! touch /s/x 2>/dev/null && echo kept'",
        "kept",
    ),
    "the workspace, written by another user": (
        f"{RUN} -u 12345:12345 -v /workspace/open:/w {IMAGE} sh -c 'echo made > /w/made && cat /w/made'",
        "made",
    ),
    "a container that outlives its client, and its end": (
        f"docker run -d --name nano --network none {IMAGE} sleep 600 > /dev/null && docker exec nano echo inside"
        " && docker stop -t 1 nano > /dev/null && docker rm nano > /dev/null && docker ps -aq | wc -l",
        "inside\n0",
    ),
    "standard input of a container": (f"echo typed | {RUN} -i {IMAGE} cat", "typed"),
}


def test_what_an_agent_mounts_into_its_containers(world: World) -> None:
    project = world.project("mounts: [.:/workspace]\n", files={".env": "SECRET=1\n"}, directory="nano")
    (project / "open").mkdir(mode=0o777)
    (project / "open").chmod(0o777)
    world.up(project)
    said = {name: world.run(project, script).ok().out.strip() for name, (script, _) in NEEDS.items()}
    assert said == {name: text for name, (_, text) in NEEDS.items()}
    assert (project / "open/made").read_text() == "made\n" and (project / ".env").read_text() == "SECRET=1\n"
