"""What people do by hand in the guest, and what it may not do."""

from __future__ import annotations

import json
import re
import shlex
import stat
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pexpect
from world import World, wait_until


def test_docker_build_run_and_compose(world: World) -> None:
    project = world.project(
        "name: docker\nmounts: [.:/workspace]\nports: [8123]\n",
        {
            "image/Dockerfile": 'FROM localhost/debian:13\nRUN echo built-here > /made\nCMD ["cat", "/made"]\n',
            "stack/compose.yaml": (
                "services:\n  one:\n    image: localhost/debian:13\n    command: sh -c 'echo ready; sleep 1000'\n"
            ),
        },
    )
    world.up(project)
    world.run(project, "docker build -q -t mine image").ok()
    assert world.run(project, "docker run --rm mine").ok().out == "built-here\n"
    world.run(project, "cd stack && docker compose up -d").ok()
    assert "ready" in world.run(project, "cd stack && docker compose logs").ok().out
    world.run(project, "cd stack && docker compose down -t 1").ok()
    # A published port of a container by hand, through the file's port, on the host's loopback.
    serve = "docker run -d -p 8123:80 -v /usr:/usr:ro localhost/debian:13 python3 -m http.server 80 -d /etc/apt"
    world.run(project, serve).ok()
    host = world.listed(project)[0]["ports"][0]["host"]

    def look() -> int | str:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{host}/", timeout=10) as answer:
                return int(answer.status)
        except (urllib.error.URLError, OSError) as error:
            return str(error)

    assert wait_until(look, lambda seen: seen == 200, "the published port does not answer") == 200


def test_registries_by_their_groups(world: World) -> None:
    project = world.project("name: byhand\nmounts: [.:/workspace]\nendpoints: [debian, pypi, npm]\n")
    world.up(project)
    world.run(project, "sudo apt-get update -qq && sudo apt-get install -y -qq hello && hello").ok()
    assert world.run(project, "npm view is-number name").ok().out.strip() == "is-number"
    world.run(project, "cd /tmp && pip download --no-deps -q six && ls six-*").ok()
    inside = "docker run --rm localhost/debian:13 sh -c 'apt-get update -qq && apt-get install -y -qq hello && hello'"
    assert "Hello, world!" in world.run(project, inside).ok().out
    verdicts = {line["verdict"] for line in world.journal(project)}
    assert verdicts == {"allowed"}


# The command, and what it says when it is the gateway that refuses: a command that is not there fails as well.
REFUSED = {
    "https": ("curl -sS -m 10 https://example.com/", "alert access denied"),
    "http": ("curl -sS -m 10 -f http://example.com/", "The requested URL returned error: 403"),
    "npm": ("cd /tmp && npm view is-number name --fetch-retries 0", "alert access denied|403"),
    "pip": ("cd /tmp && pip download --no-deps --retries 0 six", "alert access denied|ACCESS_DENIED|403"),
    "apt in a container": (
        "docker run --rm localhost/debian:13 apt-get update -o APT::Update::Error-Mode=any",
        "403 +Forbidden|alert access denied|Access was denied",
    ),
}


def test_without_the_endpoint_it_is_refused_at_once_and_journalled(world: World) -> None:
    project = world.project("name: closed\nmounts: [.:/workspace]\n")
    world.up(project)
    seen = 0
    for what, (attempt, said) in REFUSED.items():
        ran = world.run(project, attempt, timeout_s=120)
        assert ran.code != 0 and re.search(said, ran.out + ran.err), (what, ran)
        lines = world.journal(project)[seen:]
        seen += len(lines)
        assert lines and {line["verdict"] for line in lines} == {"refused"}, what
        # Told at once, and not left to the client's patience: the journal counts from the guest's connection.
        assert all(line["duration_ms"] < 1000 for line in lines), lines
    told = world.run(project, "curl -sS -m 10 http://example.com/").ok().out
    assert "example.com" in told and "endpoints:" in told


ASK_SLIRP = """
import socket
client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
client.settimeout(3)
client.sendto(bytes(12), ('10.0.2.3', 53))
client.recv(9)
"""
NO_ROAD = r"curl: \((7|28)\) .*(Could not connect|Failed to connect|Connection refused|timed out|Timeout)"
ROADS = {
    "a raw address": ("curl -sS -m 5 -k https://1.1.1.1/", NO_ROAD),
    "a raw IPv6 address": ("curl -sS -m 5 -k https://[2606:4700:4700::1111]/", NO_ROAD),
    "the router": ("curl -sS -m 5 http://10.0.2.2/", NO_ROAD),
    "the user network's name server": (f"python3 -c {shlex.quote(ASK_SLIRP)}", "TimeoutError|timed out"),
    "an allowed name with another SNI": (
        "curl -sS -m 5 -k --connect-to ::10.0.2.100: https://10.0.2.100/",
        r"curl: \(35\) .*alert",
    ),
    "metadata": ("curl -sS -m 5 http://169.254.169.254/", NO_ROAD),
}


def test_no_other_road_leads_out(world: World) -> None:
    project = world.project("name: roads\nmounts: [.:/workspace]\nendpoints: [debian]\n")
    world.up(project)
    # The tools are there, and the one road is open: what fails below fails for want of a road.
    world.run(project, "command -v curl python3 sudo").ok()
    mirror = "$(grep -om1 'http[^ ]*' /etc/apt/sources.list)"
    world.run(project, f"curl -sS -f -m 60 -o /dev/null {mirror}/dists/stable/InRelease").ok()
    for name, (attempt, said) in ROADS.items():
        ran = world.run(project, f"sudo {attempt}")
        assert ran.code != 0 and re.search(said, ran.out + ran.err), (name, ran)


def own_addresses() -> list[str]:
    """The host's own IPv4 addresses beside loopback."""
    table = Path("/proc/net/fib_trie").read_text()
    return sorted(
        {address for address in re.findall(r"\|-- (\S+)\n +/32 host LOCAL", table) if not address.startswith("127.")}
    )


def test_nothing_of_the_host_answers_an_echo(world: World) -> None:
    """The user network answers for the addresses that are its own, passt for none (docs/security.md)."""
    project = world.project("name: echoes\nmounts: [.:/workspace]\n")
    world.up(project)
    probe = (Path(__file__).parent / "echo_probe.py").read_text()
    addresses = ["127.0.0.1", "10.0.2.15", "10.0.2.2", "10.0.2.3", "10.0.2.100", "1.1.1.1", *own_addresses()]
    argv = ["exec", "-i", "-u", "root", "--", "python3", "-", *addresses]
    heard = dict(json.loads(world.sandbox(*argv, cwd=project, stdin=probe).ok().out))
    assert list(heard) == addresses
    # The control: our packets are right, and answers are seen.
    for address in ("127.0.0.1", "10.0.2.15"):
        assert heard.pop(address) == f"answered by {address}"
    for address in ("10.0.2.2", "10.0.2.3"):
        assert heard.pop(address) in (f"answered by {address}", "silence")
    answered = {address: said for address, said in heard.items() if "answered" in said}
    assert answered == {}, heard


def test_exec_streams_codes_and_environment(world: World) -> None:
    project = world.project("name: execs\nmounts: [.:/workspace]\n")
    world.up(project)
    ran = world.run(project, "echo out; echo err >&2; exit 42")
    assert (ran.code, ran.out, ran.err) == (42, "out\n", "err\n")
    assert world.sandbox("exec", "-i", "--", "cat", cwd=project, stdin="through\n").ok().out == "through\n"
    assert (
        world.sandbox("exec", "-w", "/etc", "-e", "A=b c", "--", "sh", "-c", 'echo "$PWD $A"', cwd=project).ok().out
        == "/etc b c\n"
    )
    assert world.sandbox("exec", "-u", "root", "--", "id", "-u", cwd=project).ok().out == "0\n"
    assert world.run(project, "id -un; pwd; sudo id -un").ok().out.split() == ["agent", "/workspace", "root"]
    missing = world.sandbox("exec", "--", "no-such-command", cwd=project)
    assert missing.code == 127 and "no-such-command" in missing.err
    assert world.sandbox("exec", "--", "sh", "-c", "kill -9 $$", cwd=project).code == 137


def test_a_terminal_in_the_guest_follows_ours(world: World) -> None:
    project = world.project("name: terminal\nmounts: [.:/workspace]\n")
    world.up(project)
    arguments = ["-m", "engine.cli.main", "exec", "-it", "--", "bash", "--norc"]
    child = pexpect.spawn(
        sys.executable, arguments, cwd=str(project), dimensions=(30, 100), timeout=60, encoding="utf-8"
    )
    try:
        child.expect(r"\$ ")
        child.sendline("stty size")
        child.expect("30 100")
        child.setwinsize(41, 132)
        child.sendline("sleep 0.2; stty size")
        child.expect("41 132")
        child.sendline("tty; exit 5")
        child.expect("/dev/pts/")
        child.expect(pexpect.EOF)
        child.wait()
        assert child.exitstatus == 5
    finally:
        child.close(force=True)


def test_files_belong_to_the_user_on_both_sides(world: World) -> None:
    project = world.project(
        "name: files\nmounts: [.:/workspace, ./kept:/kept:ro]\n", {"from-host": "h\n", "kept/secret": "s\n"}
    )
    world.up(project)
    owner = project.stat().st_uid
    assert (
        world.run(project, "stat -c %U from-host; echo more >> from-host; mkdir d; echo g > d/from-guest").ok().out
        == "agent\n"
    )
    assert (project / "from-host").read_text() == "h\nmore\n"
    assert (project / "d" / "from-guest").stat().st_uid == owner
    assert world.run(project, "sudo sh -c 'echo r > by-root'").ok()
    assert (project / "by-root").stat().st_uid == owner
    world.run(project, "sudo mount -o remount,rw /kept").ok()
    refused = world.run(project, "sudo sh -c 'echo x > /kept/new; echo x >> /kept/secret'")
    assert refused.code != 0 and refused.err.count("Read-only file system") == 2, refused
    assert (project / "kept" / "secret").read_text() == "s\n" and not (project / "kept" / "new").exists()


def test_the_guests_root_cannot_use_a_mount_against_the_host(world: World) -> None:
    project = world.project("name: hostile\nmounts: [./shared:/workspace]\n", {"shared/kept": "k\n", "private": "p\n"})
    world.up(project)
    shared = project / "shared"
    world.run(project, "command -v mknod mkfifo").ok()
    world.run(project, "sudo mknod disk b 7 0; sudo mknod zero c 1 5; sudo mkfifo pipe")
    kinds = [stat.S_IFMT(path.lstat().st_mode) for path in shared.iterdir()]
    assert not {stat.S_IFBLK, stat.S_IFCHR} & set(kinds)
    # A link is followed where it is read: in the guest it leads into the guest.
    world.run(
        project, f"sudo ln -s {project}/private outside; sudo ln -s ../private up; sudo ln -s /etc/hostname name"
    ).ok()
    for attempt, count in (
        ("cat outside", 1),
        ("cat up", 1),
        ("sh -c 'cd /workspace; cat ../private ../../private'", 2),
    ):
        ran = world.run(project, f"sudo {attempt}")
        assert ran.code != 0 and ran.err.count("No such file or directory") == count, ran
    assert world.run(project, "cat name").ok().out == "hostile\n"
    assert (project / "private").read_text() == "p\n"


def test_copying_in_and_out(world: World) -> None:
    project = world.project("name: copies\nmounts: [.:/workspace]\n", {"tree/a": "1\n", "tree/b/c": "2\n"})
    world.up(project)
    world.sandbox("cp", "tree", "copies:/home/agent/tree", cwd=project).ok()
    assert world.run(project, "cat ~/tree/a ~/tree/b/c; stat -c %U ~/tree/b/c").ok().out == "1\n2\nagent\n"
    world.sandbox("cp", ":/home/agent/tree/b", "back", cwd=project).ok()
    assert (project / "back" / "c").read_text() == "2\n"
