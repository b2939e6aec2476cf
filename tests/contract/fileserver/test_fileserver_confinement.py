"""What holds the server process in its directory, seen from the outside and tried from the inside."""

from __future__ import annotations

import asyncio
import json
import os
import platform
import subprocess
from pathlib import Path

import pytest
from fuse_client import FuseClient, text
from server_process import STRANGER, Place, Refused, Served, error_of
from taken_over import attempted

from vmm import virtiofs
from vmm.fileserver import fuse
from vmm.fileserver.main import MEMORY_MOST
from vmm.fileserver.vhost import VhostMessage
from vmm.system_calls import ARCHITECTURES, REFUSED
from vmm.virtiofs import START, NotConfined, SharedDirectory, serve_directory, try_confinement

NO_CAPABILITY = "0000000000000000"
FILTERED = platform.machine() in ARCHITECTURES
# What stands before the server's own start, to take from the host what it may not have.
WITHOUT_NAMESPACES = """
import sys
sys.path.insert(0, sys.argv[1])
from vmm import confine
def refuse():
    raise OSError(1, "Operation not permitted")
confine.enter_namespaces = refuse
"""
# Some hosts let everybody make a user namespace, and refuse to map a user into it.
HALF_A_NAMESPACE = """
import sys
sys.path.insert(0, sys.argv[1])
from vmm import confine
def refuse(path, *rest):
    raise PermissionError(1, "Operation not permitted")
confine.open = refuse
"""
# Before Linux 5.19.
FIRST_LANDLOCK = """
import sys, types
sys.path.insert(0, sys.argv[1])
from vmm import confine
known = confine.libc
def syscall(number, *rest):
    asked = number.value == confine.SYS_LANDLOCK_CREATE and rest[0] is None
    return 1 if asked else known.syscall(number, *rest)
confine.libc = types.SimpleNamespace(**{name: getattr(known, name) for name in
    ("unshare", "mount", "pivot_root", "umount2", "prctl", "capset")}, syscall=syscall)
"""
WITHOUT_LANDLOCK = """
import sys
sys.path.insert(0, sys.argv[1])
from vmm import confine
confine.landlock = lambda directory, **options: False
"""


def namespace(pid: int | str, kind: str) -> str:
    return str(Path(f"/proc/{pid}/ns/{kind}").readlink())


def has_landlock() -> bool:
    import ctypes

    return ctypes.CDLL(None).syscall(444, None, 0, 1) > 0


def needs_namespaces(served: Served) -> None:
    if "namespaces" not in served.holds:
        pytest.skip("this host forbids namespaces to this user")


def test_its_namespaces_are_its_own_and_its_root_is_the_share(place: Place) -> None:
    place.write("share/file", "file\n")
    with place.client() as (served, client):
        needs_namespaces(served)
        pid = served.process.pid
        for kind in ("mnt", "net", "ipc", "uts", *(() if place.uid == 0 else ("user",))):
            assert namespace(pid, kind) != namespace("self", kind), kind
        mounts = [line.split() for line in Path(f"/proc/{pid}/mountinfo").read_text().splitlines()]
        assert [(mount[4], mount[3].endswith(str(place.share))) for mount in mounts] == [("/", True)]
        assert {"nosuid", "nodev", "rw"} <= set(mounts[0][5].split(","))
        assert Path(f"/proc/{pid}/root/file").read_text() == "file\n"
        interfaces = Path(f"/proc/{pid}/net/dev").read_text().splitlines()[2:]
        assert [line.split(":")[0].strip() for line in interfaces] in ([], ["lo"])
        assert client.look_up(1, "file")
        # The host sees nothing of it.
        assert list(served.socket.with_suffix("").iterdir()) == []
        assert str(served.socket.with_suffix("")) not in Path("/proc/self/mountinfo").read_text()


def test_a_read_only_share_is_mounted_so(place: Place) -> None:
    place.write("share/file", "file\n")
    with place.client(read_only=True) as (served, _):
        needs_namespaces(served)
        (mount,) = Path(f"/proc/{served.process.pid}/mountinfo").read_text().splitlines()
        assert "ro" in mount.split()[5].split(",")


def test_mounts_in_the_share_are_served_and_held_too(our_place: Place) -> None:
    """The same for what the host has mounted below."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount something to look at")
    below = our_place.share / "below"
    below.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "none", str(below)], capture_output=True).returncode:
        pytest.skip("nothing can be mounted here")
    try:
        (below / "file").write_text("below\n")
        with our_place.client() as (served, client):
            node = client.walk("below/file")
            handle, _ = client.open(node, os.O_RDONLY)
            assert client.read(node, handle) == b"below\n"
            needs_namespaces(served)
            lines = Path(f"/proc/{served.process.pid}/mountinfo").read_text().splitlines()
            mounts = {fields[4]: fields[5] for fields in map(str.split, lines)}
            assert set(mounts) == {"/", "/below"} and "nodev" in mounts["/below"] and "nosuid" in mounts["/below"]
    finally:
        subprocess.run(["umount", "-l", str(below)], check=True)


def test_it_has_no_right_that_it_does_not_need(place: Place) -> None:
    with place.client() as (served, client):
        client.listing(1)
        if os.geteuid() == 0 and "namespaces" in served.holds:
            assert served.status("CapBnd") == NO_CAPABILITY
        for name in ("CapEff", "CapPrm", "CapInh", "CapAmb"):
            assert served.status(name) == NO_CAPABILITY
        assert served.status("NoNewPrivs") == "1"
        if FILTERED:
            assert served.status("Seccomp") == "2"
            for thread in Path(f"/proc/{served.process.pid}/task").iterdir():
                lines = dict(line.split(":\t", 1) for line in (thread / "status").read_text().splitlines())
                assert (lines["Seccomp"], lines["CapEff"]) == ("2", NO_CAPABILITY)
        assert served.status("Uid").split() == [str(place.uid)] * 4
        assert served.status("Gid").split() == [str(place.gid)] * 4
        limits = Path(f"/proc/{served.process.pid}/limits").read_text()
        assert next(line.split()[4:6] for line in limits.splitlines() if line.startswith("Max core")) in (
            ["1", "1"],
            ["0", "0"],
        )
        memory = next(line.split()[3:5] for line in limits.splitlines() if line.startswith("Max data"))
        assert memory == [str(MEMORY_MOST)] * 2, "the guest's memory is shared, and does not count"


def test_want_of_memory_is_said_in_a_line(our_place: Place) -> None:
    """Before it is ready, as its modules are loaded then."""
    no_memory = "import resource; resource.setrlimit(resource.RLIMIT_DATA, (4 << 20, 4 << 20))\n"
    with pytest.raises(Refused) as refused, our_place.serve(start=no_memory + START):
        pass
    assert "Traceback" not in refused.value.words and refused.value.words.count("\n") == 1, refused.value.words
    assert refused.value.words.startswith(("MemoryError", "ImportError", "OSError"))


def test_root_serves_somebodys_directory_as_that_user(our_place: Place) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can become somebody")
    our_place.uid = STRANGER
    our_place.own()
    secret = our_place.base / "share" / "roots"
    with our_place.client(as_root=True) as (served, client):
        for name in ("Uid", "Gid"):
            assert served.status(name).split() == [str(STRANGER)] * 4
        assert served.status("Groups") == "" and served.status("CapEff") == served.status("CapBnd") == NO_CAPABILITY
        client.create(1, "made")
        assert (our_place.share / "made").stat().st_uid == STRANGER
        secret.write_text("root's alone\n")
        secret.chmod(0o600)
        assert error_of(client.open, client.look_up(1, "roots"), os.O_RDONLY) == "EACCES"


def test_no_descriptor_but_those_that_it_needs(place: Place) -> None:
    """Also where whoever starts it has many open."""
    leaked = [os.open("/etc/passwd", os.O_RDONLY) for _ in range(5)]
    for descriptor in leaked:
        os.set_inheritable(descriptor, True)
    try:
        with place.client() as (served, client):
            client.listing(1)
            seen = sorted(served.descriptors().values())
    finally:
        for descriptor in leaked:
            os.close(descriptor)
    kinds = [name.split(":")[0] if ":[" in name else name for name in seen]
    expected = {"anon_inode": 4, "socket": 2, "/dev/null": 2, "/memfd:guest (deleted)": 1}
    # Of the sockets one is to its stand-in.
    expected["pipe"] = 1  # by which it says that there is no room
    if "namespaces" in served.holds:
        expected["/"] = 2  # the share, and /proc/PID/fd as a mount of its own
    else:
        expected |= {str(place.share): 1, f"/proc/{served.process.pid}/fd": 1}
    assert {kind: kinds.count(kind) for kind in expected} == expected, seen
    others = [kind for kind in kinds if kind not in expected]
    assert len(others) == 1 and "deleted" in others[0], seen  # its standard error
    assert not any("passwd" in name for name in seen)


@pytest.mark.parametrize("before", ["", WITHOUT_NAMESPACES, WITHOUT_LANDLOCK], ids=["all", "Landlock", "namespaces"])
def test_whoever_takes_it_over_gets_nothing(place: Place, before: str) -> None:
    if before == WITHOUT_NAMESPACES and not has_landlock():
        pytest.skip("this kernel has no Landlock")
    with place.untouched():
        told = attempted(place, before)
    if before == WITHOUT_LANDLOCK and told["holds"] != ["namespaces"]:
        pytest.skip("this host forbids namespaces to this user")
    assert told["holds"] == {"": told["holds"], WITHOUT_NAMESPACES: ["Landlock"]}.get(before, ["namespaces"])
    results = told["results"]
    assert isinstance(results, dict) and results.pop("thread") == "runs"
    if not FILTERED:
        pytest.skip("no filter for this architecture")
    assert told["filtered"] is True
    assert {name: error for name, error in results.items() if not error} == {}, results
    assert (place.share / "made-inside").read_text() == "x"


def test_every_refused_call_is_refused(our_place: Place) -> None:
    """Each number of the list, for this architecture: the filter's jumps are right for the first and the last."""
    if not FILTERED:
        pytest.skip("no filter for this architecture")
    column = ARCHITECTURES[platform.machine()][0]
    script = """
import ctypes, errno, json, os, sys
sys.path.insert(0, sys.argv[1])
from vmm import confine, system_calls
told = json.loads(sys.argv[2])
confine.become(told["uid"], told["gid"])
assert system_calls.refuse()
libc = ctypes.CDLL(None, use_errno=True)
results = {}
for name, numbers in system_calls.REFUSED.items():
    if numbers[COLUMN] is not None:
        ctypes.set_errno(0)
        results[name] = [libc.syscall(ctypes.c_long(numbers[COLUMN]), *[ctypes.c_long(-1)] * 6), ctypes.get_errno()]
os.write(told["report"], ("report " + json.dumps(results)).encode())
"""
    with pytest.raises(Refused) as done, our_place.serve(start=script.replace("COLUMN", str(column))):
        raise AssertionError("it is not the server")
    results = json.loads(str(done.value).partition(" ")[2])
    assert len(results) == sum(numbers[column] is not None for numbers in REFUSED.values()) > 80
    assert {name for name, result in results.items() if result != [-1, 1]} == set()


def test_a_call_of_another_architecture_is_the_end(our_place: Place) -> None:
    """The same numbers mean other calls there."""
    if platform.machine() != "x86_64":
        pytest.skip("x86-64 has a second set of calls")
    script = """
import ctypes, json, os, sys
sys.path.insert(0, sys.argv[1])
from vmm import confine, system_calls
told = json.loads(sys.argv[2])
confine.become(told["uid"], told["gid"])
system_calls.refuse()
ctypes.CDLL(None).syscall(ctypes.c_long(0x40000000 + 39))
os.write(told["report"], b"report alive")
"""
    with pytest.raises(Refused) as done, our_place.serve(start=script):
        raise AssertionError("it is not the server")
    assert (str(done.value), done.value.words) == ("", "")


@pytest.mark.parametrize("unconfined", [False, True])
def test_without_namespaces_landlock_alone_holds_it(place: Place, unconfined: bool) -> None:
    if not has_landlock():
        pytest.skip("this kernel has no Landlock")
    place.write("share/file", "file\n")
    with place.client(start=WITHOUT_NAMESPACES + START, unconfined=unconfined) as (served, client), place.untouched():
        assert served.holds == "Landlock"
        assert served.status("NoNewPrivs") == "1" and served.status("CapEff") == NO_CAPABILITY
        node, handle = client.create(1, "made")
        client.write(node, handle, b"x")
        client.make_directory(1, "directory")
        client.rename(1, "made", client.look_up(1, "directory"), "made")
        client.send(fuse.LINK, 1, fuse.LINK_IN.pack(node) + text("second"))
        client.listing(1)
        # What is moved out of the share is out of reach, although its descriptor is known.
        directory = client.look_up(1, "directory")
        below = client.look_up(directory, "made")
        (place.share / "directory").rename(place.base / "run" / "moved")
        assert error_of(client.create, directory, "new") in ("ESTALE", "EACCES")
        assert error_of(client.open, below, os.O_RDWR) in ("ESTALE", "EACCES", "")  # by its open handle
        (place.base / "run" / "moved").rename(place.share / "directory")


def test_a_namespace_that_cannot_be_finished_is_none(place: Place) -> None:
    if place.uid == 0:
        pytest.skip("root needs no mapping")
    if not has_landlock():
        pytest.skip("this kernel has no Landlock")
    place.write("share/file", "file\n")
    with place.client(start=HALF_A_NAMESPACE + START) as (served, client):
        assert served.holds == "Landlock"
        node, _ = client.create(1, "made")
        assert client.attributes(node)[11] == 1000, "the files are nobody's"
        assert (place.share / "made").stat().st_uid == place.uid


def test_the_first_landlock_forbids_too_much_where_namespaces_are(place: Place) -> None:
    with place.client(start=FIRST_LANDLOCK + START) as (served, client):
        needs_namespaces(served)
        assert served.holds == "namespaces"
        client.create(1, "file")
        client.rename(1, "file", client.make_directory(1, "directory"), "file")


def test_it_ends_with_who_started_it(place: Place) -> None:
    """Although it has become another user: that takes the kernel's signal at the parent's death away."""
    with place.client() as (served, _):
        parent = int(served.status("PPid"))
        assert parent == os.getpid() or place.uid != os.geteuid()
    script = "import ctypes; ctypes.CDLL(None).prctl(1, 9, 0, 0, 0)\n"
    told = """
import ctypes
kept = ctypes.c_int()
ctypes.CDLL(None).prctl(2, ctypes.byref(kept), 0, 0, 0)
print("at the parent's death:", kept.value, file=sys.stderr, flush=True)
"""
    after = "from vmm.fileserver import server; real = server.Server\ndef tell(*all):\n"
    after += "".join(f"    {line}\n" for line in told.strip().splitlines()) + "    return real(*all)\n"
    patch = "import sys; sys.path.insert(0, sys.argv[1])\n" + script + after
    patch += "from vmm.fileserver import main as program\nprogram.Server = tell\n"
    with place.client(start=patch + START) as (served, _):
        served.wait_for_words("at the parent's death: 9")


def test_with_neither_it_is_refused_unless_the_user_takes_the_risk(place: Place) -> None:
    place.write("share/file", "file\n")
    start = WITHOUT_NAMESPACES + WITHOUT_LANDLOCK + START
    with pytest.raises(Refused, match=r"0 namespaces cannot be used here \(.*\), and this kernel has no Landlock"):
        with place.serve(start=start):
            raise AssertionError
    with place.client(start=start, unconfined=True) as (served, client), place.untouched():
        assert served.holds == ""
        assert client.look_up(1, "file")
        # The server's own checks are all there is then, and hold.
        for name in ("..", "../outside/file", str(place.outside / "file"), "x/../../outside"):
            for operation, body in ((fuse.LOOKUP, b""), (fuse.UNLINK, b""), (fuse.MKDIR, fuse.MKDIR_IN.pack(0o755, 0))):
                assert error_of(client.send, operation, 1, body + text(name))
        client.send(fuse.SYMLINK, 1, text("out") + text(str(place.outside)))
        assert error_of(client.look_up, client.look_up(1, "out"), "file") == "ESTALE"


def test_the_host_is_told_what_holds_it_and_why_nothing_does(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    if place.uid != os.geteuid():
        pytest.skip("the host's side runs as the user of the tests")
    server = Path(os.environ["SANDBOX_RUNTIME_DIR"]) / "s.sock"
    shared = SharedDirectory(place.share, "mount0")

    async def serve(shared: SharedDirectory) -> str:
        async with serve_directory(shared, server) as holds:

            def guest() -> None:
                with FuseClient(server) as client:
                    client.init()
                    client.create(1, f"made-{holds}")

            await asyncio.to_thread(guest)
            return holds

    holds = asyncio.run(serve(shared))
    assert holds and holds == asyncio.run(try_confinement())
    assert (place.share / f"made-{holds}").exists() and not server.exists() and not server.with_suffix("").exists()

    strip = "import sys; sys.path.insert(0, sys.argv[1]); "
    monkeypatch.setattr(virtiofs, "START", strip + (WITHOUT_NAMESPACES + WITHOUT_LANDLOCK).strip() + "\n" + START)
    with pytest.raises(NotConfined, match="nothing would confine the file server of") as caught:
        asyncio.run(serve(shared))
    assert "namespaces cannot be used here" in str(caught.value) and "--unconfined-mounts" in (caught.value.hint or "")
    with pytest.raises(NotConfined):
        asyncio.run(try_confinement())
    assert asyncio.run(serve(SharedDirectory(place.share, "mount0", unconfined=True))) == ""
    assert not server.exists() and not server.with_suffix("").exists()


def test_the_host_is_told_when_qemu_has_begun_with_the_device(place: Place) -> None:
    """Once, and not before there is a queue for requests: a guest that mounts without one waits for ever."""
    if place.uid != os.geteuid():
        pytest.skip("the host's side runs as the user of the tests")
    server = Path(os.environ["SANDBOX_RUNTIME_DIR"]) / "s.sock"

    async def run() -> None:
        said: list[str] = []
        begun, shared = asyncio.Event(), SharedDirectory(place.share, "mount0")

        def begin() -> None:
            said.append("begun")
            begun.set()

        async with serve_directory(shared, server, on_begin=begin):
            client = await asyncio.to_thread(FuseClient, server, start=False)
            with client:
                await asyncio.to_thread(client.ask, VhostMessage.GET_QUEUE_NUM)
                assert said == []
                await asyncio.to_thread(client._start)
                await asyncio.wait_for(begun.wait(), 20)
                await asyncio.to_thread(client.stop_ring, 1)
                await asyncio.to_thread(client.start_ring, 1)
                await asyncio.to_thread(client.init)
                assert said == ["begun"]

    asyncio.run(run())


def test_a_source_that_became_a_link_is_not_served(place: Place) -> None:
    place.share.rmdir()
    (place.base / "real").mkdir()
    place.share.symlink_to("real")
    for extra in ("", WITHOUT_NAMESPACES):
        with pytest.raises(Refused, match=r"^40 "):
            with place.serve(start=extra + START):
                raise AssertionError
