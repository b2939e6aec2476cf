"""The commands that talk to a sandbox, end to end but for the machine."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path

import pexpect
import pytest
from cli_world import DEADLINE_S, CommandLine, FakeSandbox, start_fake, write_instance

from engine.state.instances import save_instance
from engine.state.layout import Layout

pytestmark = pytest.mark.usefixtures("fake")


def test_exec_keeps_streams_code_and_directory(sandbox: CommandLine, me: str) -> None:
    ran = sandbox("exec", "-u", me, "--", "sh", "-c", "pwd; echo err >&2; exit 7")
    assert (ran.code, ran.out, ran.err) == (7, f"{sandbox.project}\n", "err\n")


def test_exec_is_told_a_name_in_either_place(sandbox: CommandLine, me: str, tmp_path: Path) -> None:
    for argv in (
        ("shop", "-u", me, "--"),
        ("-u", me, "shop", "--"),
        ("-n", "shop", "-u", me, "--"),
        ("-u", me, "-n", "shop"),
    ):
        ran = sandbox("exec", *argv, "echo", "-n", "there", cwd=tmp_path)
        assert (ran.code, ran.out, ran.err) == (0, "there", "")
    assert sandbox("exec", "-u", me, "--", "true", cwd=sandbox.project.parent).code == 1


def test_exec_without_dashes_takes_all_words_as_the_command(sandbox: CommandLine, me: str) -> None:
    assert sandbox("exec", "-u", me, "echo", "-e", "--help").out == "--help\n"


def test_exec_options(sandbox: CommandLine, me: str) -> None:
    script = "pwd; echo $A $B; cat"
    ran = sandbox(
        "exec", "-i", "-w", "/", "-e", "A=x=y", "-e", "B", "-u", me, "--", "sh", "-c", script, stdin="in\n", B="mine"
    )
    assert (ran.code, ran.out) == (0, "/\nx=y mine\nin\n")


def test_exec_does_not_eat_standard_input_unasked(sandbox: CommandLine, me: str) -> None:
    assert sandbox("exec", "-u", me, "--", "cat", stdin="kept\n").out == ""


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        ((), "no command is given"),
        (("--",), "no command is given"),
        (("a", "b", "--", "true"), "only one sandbox's name"),
        (("-n", "a", "b", "--", "true"), "only one sandbox's name"),
        (("-e", "=x", "--", "true"), "is not NAME=VALUE"),
        (("-e", "NO_SUCH_VARIABLE", "--", "true"), "has no value here"),
        (("-it", "--", "true"), "-t needs a terminal"),
        (("-t", "--", "true"), "-t needs a terminal"),
        (("--nope", "--", "true"), "No such option"),
        (("Bad Name", "--", "true"), "is not a sandbox name"),
    ],
)
def test_exec_misused(sandbox: CommandLine, argv: tuple[str, ...], said: str) -> None:
    ran = sandbox("exec", *argv)
    assert (ran.code, ran.out) == (2, "") and said in ran.err and "hint: " in ran.err


def test_exec_of_what_is_not_there(sandbox: CommandLine, me: str) -> None:
    ran = sandbox("exec", "-u", me, "--", "no-such-program")
    assert ran.code == 127 and "no-such-program" in ran.err
    ran = sandbox("exec", "other", "--", "true")
    assert ran.code == 1 and "there is no sandbox called other" in ran.err and "hint: there is: shop" in ran.err


def test_exec_in_a_terminal(sandbox: CommandLine, me: str) -> None:
    argv = sandbox.argv("exec", "-it", "-u", me, "--", "sh", "-c", "test -t 0 && stty size; exit 5")
    child = pexpect.spawn(
        argv[0], argv[1:], cwd=str(sandbox.project), env=sandbox.environment(), timeout=DEADLINE_S, dimensions=(33, 77)
    )
    try:
        child.expect_exact("33 77\r\n")
        child.expect(pexpect.EOF)
        child.wait()
        assert child.exitstatus == 5
    finally:
        child.close(force=True)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_reach_the_command(sandbox: CommandLine, me: str, number: signal.Signals) -> None:
    script = f"trap 'kill $! 2>/dev/null; exit 9' {number.name[3:]}; sleep 1000 & echo ready; wait"
    argv = sandbox.argv("exec", "-u", me, "--", "sh", "-c", script)
    with subprocess.Popen(
        argv, cwd=sandbox.project, env=sandbox.environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None and process.stdout.readline() == b"ready\n"
        process.send_signal(number)
        assert process.communicate(timeout=DEADLINE_S) == (b"", b"")
        assert process.returncode == 9


def test_a_reader_that_goes_away_is_no_error(sandbox: CommandLine, me: str) -> None:
    argv = sandbox.argv("exec", "-u", me, "--", "sh", "-c", "while :; do echo y; done")
    with subprocess.Popen(
        argv, cwd=sandbox.project, env=sandbox.environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(DEADLINE_S) == 141


@pytest.mark.skipif(os.geteuid() != 0, reason="the guest's tar runs as root")
def test_cp_both_ways(sandbox: CommandLine, tmp_path: Path) -> None:
    (tmp_path / "guest").mkdir()
    (sandbox.project / "a file").write_text("content")
    ran = sandbox("cp", "a file", f"shop:{tmp_path}/guest")
    assert (ran.code, ran.out, ran.err) == (0, "", "")
    assert (tmp_path / "guest" / "a file").read_text() == "content"
    ran = sandbox("cp", f":{tmp_path}/guest/.", "back")
    assert (ran.code, ran.err) == (0, "")
    assert (sandbox.project / "back" / "a file").read_text() == "content"
    (tmp_path / "guest" / "hole").symlink_to("/etc/passwd")
    ran = sandbox("cp", f":{tmp_path}/guest/.", "again")
    assert ran.code == 0 and "left out: " in ran.err and "hole" in ran.err
    ran = sandbox("cp", f":{tmp_path}/guest/missing", ".")
    assert ran.code == 1 and "no such file or directory in the guest" in ran.err


@pytest.mark.parametrize(
    ("source", "destination", "said"),
    [
        ("a", "b", "one side must be"),
        ("shop:/a", "shop:/b", "one side must be"),
        ("missing", ":/tmp", "missing does not exist on this host"),
        ("./with:/colon", ":/tmp", "./with:/colon does not exist on this host"),
    ],
)
def test_cp_misused(sandbox: CommandLine, source: str, destination: str, said: str) -> None:
    ran = sandbox("cp", source, destination)
    assert ran.code == 2 and said in ran.err


@pytest.fixture
def victim(sandbox: CommandLine, layout: Layout, fake: FakeSandbox, tmp_path: Path) -> Path:
    """The home of a user whose project is mounted live in the guest, which has planted links to it."""
    mounts = [{"source": str(sandbox.project), "target": "/workspace", "read_only": False, "protected": []}]
    record = fake.record()
    assert record is not None
    save_instance(layout, record._replace(mounts=mounts))
    victim = tmp_path / "victim"
    (victim / ".ssh").mkdir(parents=True)
    (victim / ".ssh/id_rsa").write_text("KEY")
    (sandbox.project / "results").symlink_to(victim / ".ssh")
    (sandbox.project / "docs").symlink_to(victim)
    (tmp_path / "guest").mkdir()
    (tmp_path / "guest/authorized_keys").write_text("EVIL")
    return victim


@pytest.mark.parametrize(
    "argv",
    [
        (":GUEST/authorized_keys", "results"),
        (":GUEST/authorized_keys", "results/"),
        (":GUEST/authorized_keys", "docs/.ssh/new"),
        (":GUEST/.", "results"),
        (":GUEST", "docs/.ssh/new"),
        ("docs/.ssh", ":GUEST"),
        ("results/.", ":GUEST"),
        ("results/id_rsa", ":GUEST"),
        ("PROJECT/docs/.ssh/id_rsa", ":GUEST"),
    ],
)
def test_cp_follows_no_link_that_the_guest_may_have_made(
    sandbox: CommandLine, victim: Path, tmp_path: Path, argv: tuple[str, str]
) -> None:
    words = [word.replace("GUEST", str(tmp_path / "guest")).replace("PROJECT", str(sandbox.project)) for word in argv]
    ran = sandbox("cp", *words)
    link = "docs" if "docs" in "".join(argv) else "results"
    target = victim if link == "docs" else victim / ".ssh"
    said = f"error: {sandbox.project}/{link} is a link to {target}, where the guest of shop may write\n"
    assert ran.code == 2 and ran.err.startswith(said) and "hint: " in ran.err
    assert [path.name for path in (victim / ".ssh").iterdir()] == ["id_rsa"]
    assert [path.name for path in (tmp_path / "guest").rglob("*")] == ["authorized_keys"]


@pytest.mark.skipif(os.geteuid() != 0, reason="the guest's tar runs as root")
def test_cp_elsewhere_and_of_a_link_itself_is_as_ever(sandbox: CommandLine, victim: Path, tmp_path: Path) -> None:
    (tmp_path / "own").symlink_to(victim)
    ran = sandbox("cp", f":{tmp_path}/guest/authorized_keys", str(tmp_path / "own"))
    assert (ran.code, ran.err) == (0, "") and (victim / "authorized_keys").read_text() == "EVIL"
    assert sandbox("cp", "docs", f":{tmp_path}/guest").code == 0
    assert (tmp_path / "guest/docs").readlink() == victim
    (sandbox.project / "real").mkdir()
    assert sandbox("cp", f":{tmp_path}/guest/authorized_keys", "real/").code == 0
    assert (sandbox.project / "real/authorized_keys").read_text() == "EVIL"


def test_ls(sandbox: CommandLine, layout: Layout, fake: FakeSandbox) -> None:
    write_instance(layout, "dead", pid=fake.process.pid, process="somebody else's")
    write_instance(layout, "odd", state="no such state")
    table = [line.split() for line in sandbox("ls").out.splitlines()]
    assert table[0] == ["NAME", "STATUS", "AGENT", "PROJECT", "PORTS", "SERVICES"]
    assert table[1][:2] == ["dead", "dead:"] and table[2][:2] == ["odd", "unreadable:"]
    assert table[3] == ["shop", "running", "-", str(sandbox.project), "8080->80", "db", "web"]
    rows = {row["name"]: row for row in json.loads(sandbox("ls", "--json").out)}
    assert {name: row["status"] for name, row in rows.items()} == {
        "dead": "dead",
        "odd": "unreadable",
        "shop": "running",
    }
    assert rows["shop"]["pid"] == fake.process.pid and rows["shop"]["services"]["web"]["health"] == "healthy"
    assert "project" not in rows["odd"] and "damaged" in rows["odd"]["message"]


def test_down(sandbox: CommandLine, layout: Layout, fake: FakeSandbox) -> None:
    (sandbox.project / "deep").mkdir()
    ran = sandbox("down", cwd=sandbox.project / "deep")
    assert (ran.code, ran.out, ran.err) == (0, "shop is down\n", "")
    assert fake.process.wait(DEADLINE_S) == 0 and fake.record() is None
    assert not layout.instance("shop").sockets.directory.exists()
    ran = sandbox("down")
    assert (ran.code, ran.out, ran.err) == (0, "", "no sandbox of this project runs\n")
    assert sandbox("down", "shop").code == 1


def test_down_insists(sandbox: CommandLine, layout: Layout) -> None:
    with start_fake(sandbox.forks, layout, sandbox.project, "deaf") as deaf:
        os.kill(deaf.process.pid, signal.SIGSTOP)  # it answers nothing, and no signal but one ends it
        ran = sandbox(
            "down", "deaf", changes={"engine.lifecycle.down.ASK_S": 0.3, "engine.lifecycle.down.INSIST_S": 0.3}
        )
        assert (ran.code, ran.out) == (0, "deaf is down\n")
        assert deaf.process.wait(DEADLINE_S) == -signal.SIGKILL
        assert deaf.record() is None


def test_down_all(sandbox: CommandLine, layout: Layout, fake: FakeSandbox) -> None:
    write_instance(layout, "dead")
    write_instance(layout, "odd", state="no such state")
    ran = sandbox("down", "--all")
    assert ran.code == 2 and "nobody is here to approve taking down dead, odd, shop" in ran.err
    ran = sandbox("down", "--all", "shop")
    assert ran.code == 2 and "exclude each other" in ran.err
    ran = sandbox("down", "--all", "--yes")
    assert (ran.code, ran.out) == (0, "dead is down\nodd is down\nshop is down\n")
    assert list(layout.instances.iterdir()) == []
    assert sandbox("down", "--all").err == "nothing to take down\n"


def test_a_damaged_record_does_not_keep_its_supervisor(sandbox: CommandLine, layout: Layout, fake: FakeSandbox) -> None:
    layout.instance("shop").record.write_text("{")
    assert sandbox("down", "shop").code == 0
    assert fake.process.wait(DEADLINE_S) == 0


def test_down_takes_several_names(sandbox: CommandLine, layout: Layout) -> None:
    write_instance(layout, "one", project=str(sandbox.project))
    ran = sandbox("exec", "--", "true")
    assert ran.code == 1 and "this project has several sandboxes: one, shop" in ran.err
    assert sandbox("down", "one", "one", "shop").out == "one is down\nshop is down\n"


def test_commands_that_need_a_running_one_say_so(sandbox: CommandLine, layout: Layout, fake: FakeSandbox) -> None:
    fake.process.kill()
    fake.process.wait()
    for argv in (("exec", "--", "true"), ("logs",), ("cp", "/etc/hostname", ":/tmp")):
        ran = sandbox(*argv)
        assert ran.code == 1 and "the sandbox shop is not running (dead: supervisor was killed)" in ran.err
    assert sandbox("down").code == 0


def test_a_supervisor_that_does_not_answer(sandbox: CommandLine, layout: Layout, fake: FakeSandbox) -> None:
    layout.instance("shop").sockets.control.unlink()
    ran = sandbox("exec", "--", "true")
    assert ran.code == 1 and "does not answer" in ran.err
    assert json.loads(sandbox("ls", "--json").out)[0]["status"] == "unresponsive"


def test_logs(sandbox: CommandLine, layout: Layout) -> None:
    with start_fake(sandbox.forks, layout, sandbox.project, "echo", "--echo"):
        asked = json.loads(sandbox("logs", "-n", "echo", "-f", "--tail", "5", "web").out)
        assert asked["argv"][:6] == ["docker", "compose", "--ansi", "never", "-f", "/compose.yaml"]
        assert asked["argv"][6:] == ["logs", "--no-color", "--tail", "5", "--follow", "web"]
        assert json.loads(sandbox("logs", "-n", "echo").out)["argv"][-1] == "all"
        ran = sandbox("logs", "-n", "echo", "wbe")
        assert ran.code == 2 and "has no service 'wbe'" in ran.err and "did you mean 'web'?" in ran.err
        ran = sandbox("logs", "-n", "echo", "cache")
        assert "there is: db, web" in ran.err
        assert sandbox("logs", "-n", "echo", "--tail", "few").code == 2


def test_up_on_a_running_one_that_has_changed(sandbox: CommandLine) -> None:
    sandbox.file('version: "1"\nname: shop\n')
    ran = sandbox("up", "-d")
    assert ran.code == 2 and "shop runs, needs a new machine" in ran.err and "--recreate" in ran.err


def test_a_bad_file_does_not_cost_the_running_one(sandbox: CommandLine, fake: FakeSandbox) -> None:
    # Its own port is not in its way, the missing directory is.
    sandbox.file('version: "1"\nname: shop\nports: ["8080:80"]\nmounts: [./nowhere:/workspace]\n')
    ran = sandbox("up", "-d", "--recreate")
    assert ran.code == 2 and "does not exist" in ran.err and "8080" not in ran.err
    assert fake.process.poll() is None and fake.record() is not None


def test_another_projects_name(sandbox: CommandLine, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "Sandboxfile.yaml").write_text('version: "1"\nname: shop\n')
    ran = sandbox("up", "-d", cwd=other)
    assert ran.code == 1 and f"the name shop is taken by {sandbox.project}" in ran.err
