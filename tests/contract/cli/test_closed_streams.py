"""Commands that are started without a standard input, output or error: by cron, daemons, `>&-`."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from pathlib import Path

import pytest
from cli_world import DEADLINE_S, CommandLine

CLOSED = {"0": "<&-", "1": ">&-", "2": "2>&-", "01": "<&- >&-", "012": "<&- >&- 2>&-"}


@pytest.fixture(params=CLOSED)
def closed(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def ran(sandbox: CommandLine, closed: str, *argv: str) -> tuple[int, str, str]:
    """Exit code, output and errors, of a command of which these descriptors are closed."""
    shell = ["sh", "-c", f'exec "$@" {CLOSED[closed]}', "sh", *sandbox.argv(*argv)]
    done = subprocess.run(
        shell,
        cwd=sandbox.project,
        env=sandbox.environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
    )
    assert "Traceback" not in done.stderr and "bug" not in done.stderr
    return done.returncode, done.stdout, done.stderr


@pytest.mark.usefixtures("fake")
def test_exec(sandbox: CommandLine, closed: str, me: str) -> None:
    script = "cat; echo out; echo err >&2; ls -l /proc/self/fd >&2; exit 7"
    for argv in (("-i", "-u", me, "--"), ("-i", "-u", me)):  # by its own road, and by click's
        code, out, err = ran(sandbox, closed, "exec", *argv, "sh", "-c", script)
        assert code == 7
        assert out == ("" if "1" in closed else "out\n")
        assert err.startswith("" if "2" in closed else "err\n")


@pytest.mark.usefixtures("fake")
def test_much_output_goes_nowhere(sandbox: CommandLine, closed: str, me: str) -> None:
    script = "head -c 3000000 /dev/zero; head -c 3000000 /dev/zero >&2"
    code, out, err = ran(sandbox, closed, "exec", "-u", me, "--", "sh", "-c", script)
    assert code == 0
    assert len(out) == (0 if "1" in closed else 3_000_000)
    assert len(err) == (0 if "2" in closed else 3_000_000)


@pytest.mark.usefixtures("fake")
@pytest.mark.parametrize(
    "argv", [("ls",), ("ls", "--json"), ("--help",), ("exec", "--help"), ("nonsense",)], ids=" ".join
)
def test_others(sandbox: CommandLine, argv: tuple[str, ...]) -> None:
    for closed in ("1", "012"):
        assert ran(sandbox, closed, *argv)[0] == (2 if argv == ("nonsense",) else 0)


def test_files(sandbox: CommandLine) -> None:
    sandbox.file('version: "1"\nagent: {command: [bash]}\nmounts: [".:/workspace"]\n')
    for argv in (("validate",), ("config",), ("plan",), ("graph",), ("init", "--force")):
        code, _, err = ran(sandbox, "01", *argv)
        assert code in (0, 1), (argv, err)


def test_what_the_outputs_encoding_lacks(sandbox: CommandLine) -> None:
    directory = sandbox.project / "ünï"
    directory.mkdir()
    (directory / "Sandboxfile.yaml").write_text('version: "1"\nagent: {command: [bash]}\n')
    done = subprocess.run(
        sandbox.argv("validate", directory.name),
        cwd=sandbox.project,
        env=sandbox.environment(PYTHONIOENCODING="ascii"),
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
    )
    assert done.returncode == 0 and "Traceback" not in done.stderr and r"\xfcn\xef" in done.stdout + done.stderr


def links(pid: int) -> dict[str, str]:
    """Descriptor -> what it leads to."""
    found = {}
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed since
            found[link.name] = str(link.readlink())
    return found


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="looks at /proc")
@pytest.mark.usefixtures("fake")
def test_no_connection_of_ours_is_in_their_place(sandbox: CommandLine, me: str) -> None:
    """Descriptors 0 to 2 are the null device while a command runs, and it ends by a signal."""
    argv = sandbox.argv("exec", "-u", me, "--", "sleep", "1000")
    shell = ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", *argv]
    with subprocess.Popen(shell, cwd=sandbox.project, env=sandbox.environment()) as process:
        try:
            while not any(target.startswith("socket:") for target in links(process.pid).values()):
                assert process.poll() is None
            assert [links(process.pid)[number] for number in "012"] == [os.devnull] * 3
            process.terminate()
            assert process.wait(DEADLINE_S) in (128 + signal.SIGTERM, -signal.SIGTERM)
        finally:
            process.kill()
