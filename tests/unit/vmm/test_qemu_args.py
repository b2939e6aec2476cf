"""The whole command line of each kind of machine, and what must never get into it."""

from __future__ import annotations

import dataclasses
import itertools
import shlex
from pathlib import Path
from typing import Any

import pytest

from vmm.errors import VmmError
from vmm.qemu_args import qemu_arguments, quote
from vmm.spec import Drive, GuestForward, MachineSpec, Memory, Network, kernel_arguments

GIB = 1024**3
FDS = {"qmp": 3, "console": 4, "channel": 5}
SPEC = MachineSpec(
    name="shop",
    accelerator="tcg",
    cpus=2,
    memory=Memory(GIB),
    kernel=Path("/k/vmlinuz"),
    initrd=Path("/k/initrd"),
    append="console=ttyS0 quiet",
    drives=(Drive(Path("/i/root.erofs"), "root", "raw", read_only=True), Drive(Path("/i/disk.qcow2"), "disk")),
    spare_ports=2,
)
NETWORK = Network(
    guest_forwards=(GuestForward(443, Path("/r/gw.sock")), GuestForward(5432, Path("/r/db.sock"), "10.0.2.101")),
)
TCG = """
-L /share/qemu -name sandbox-shop -nodefaults -no-user-config -display none
-sandbox on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny
-no-reboot -boot strict=on -msg timestamp=on
-M q35,smbus=off,sata=off,usb=off,vmport=off,hpet=off,memory-backend=ram -accel tcg,thread=multi
-cpu max -smp cpus=2
-m size=1024M -object memory-backend-ram,id=ram,size=1073741824
-kernel /k/vmlinuz -initrd /k/initrd -append 'console=ttyS0 quiet'
-chardev socket,id=qmp,fd=3 -chardev socket,id=console,fd=4
-mon chardev=qmp,mode=control -serial chardev:console
-blockdev driver=raw,node-name=root,read-only=on,discard=unmap,\
file.driver=file,file.filename=/i/root.erofs,file.locking=off
-device virtio-blk-pci,drive=root,serial=root,id=blk-root
-blockdev driver=qcow2,node-name=disk,read-only=off,discard=unmap,\
file.driver=file,file.filename=/i/disk.qcow2,file.locking=off
-device virtio-blk-pci,drive=disk,serial=disk,id=blk-disk
-device virtio-serial-pci,id=vserial -chardev socket,id=channel,fd=5
-device virtserialport,bus=vserial.0,chardev=channel,name=org.sandbox.agent
-device virtio-rng-pci -device vmgenid,guid=auto
-device virtio-balloon-pci,id=balloon,free-page-reporting=on
-device pcie-root-port,id=slot0,chassis=1,slot=1
-device pcie-root-port,id=slot1,chassis=2,slot=2
"""


def arguments(**changes: Any) -> list[str]:
    spec = dataclasses.replace(SPEC, **changes)
    return qemu_arguments(spec, fds=FDS, connect=["/t/nc", "-N", "-U"], data=["-L", "/share/qemu"])


def values(arguments: list[str], option: str) -> list[str]:
    return [value for name, value in itertools.pairwise(arguments) if name == option]


def difference(changed: list[str]) -> tuple[list[str], list[str]]:
    """What the arguments have less and more than those of the plain machine, in order."""
    plain = arguments()
    return [word for word in plain if word not in changed], [word for word in changed if word not in plain]


def test_the_whole_command_line_under_emulation() -> None:
    assert arguments() == shlex.split(TCG)


def test_the_same_value_gives_the_same_list() -> None:
    assert arguments(network=NETWORK) == arguments(network=NETWORK)


@pytest.mark.parametrize("accelerator", ["kvm", "hvf", "whpx"])
def test_an_accelerator_uses_the_hosts_cpu(accelerator: str) -> None:
    assert difference(arguments(accelerator=accelerator)) == (["tcg,thread=multi", "max"], [accelerator, "host"])


def test_incoming_waits_for_the_state() -> None:
    assert difference(arguments(incoming=True)) == ([], ["-incoming", "defer", "-S"])


@pytest.mark.parametrize("shared, word, more", [(True, "on", ""), (False, "off", ",readonly=on,rom=off")])
def test_memory_of_a_file(shared: bool, word: str, more: str) -> None:
    memory = Memory(GIB, Path("/proc/self/fd/9"), shared=shared)
    expected = f"memory-backend-file,id=ram,size=1073741824,mem-path=/proc/self/fd/9,share={word}{more}"
    assert difference(arguments(memory=memory)) == (["memory-backend-ram,id=ram,size=1073741824"], [expected])


def test_memory_is_whole_mebibytes() -> None:
    with pytest.raises(VmmError, match="whole number of MiB"):
        arguments(memory=Memory(GIB + 4096))


def test_the_network_reaches_nothing_but_the_forwards() -> None:
    assert difference(arguments(network=NETWORK))[1] == [
        "on,obsolete=deny,resourcecontrol=deny",  # it starts a program for each connection
        "-netdev",
        "user,id=user0,restrict=on,ipv6=off,dhcpstart=10.0.2.15"
        ",guestfwd=tcp:10.0.2.100:443-cmd:/t/nc -N -U /r/gw.sock"
        ",guestfwd=tcp:10.0.2.101:5432-cmd:/t/nc -N -U /r/db.sock",
        "-netdev",
        "hubport,id=hub0,hubid=0,netdev=user0",
        "-netdev",
        "hubport,id=net0,hubid=0",
        "virtio-net-pci,netdev=net0,mac=52:54:00:12:34:56,romfile=",
    ]


def test_a_qemu_without_a_filter_is_not_asked_for_one() -> None:
    without = qemu_arguments(SPEC, fds=FDS, connect=[], data=["-L", "/share/qemu"], filtered=False)
    assert "-sandbox" not in without and len(without) == len(arguments()) - 2


def test_packets_go_to_an_inherited_descriptor_and_to_nothing_else() -> None:
    words = arguments(network=Network(stream=9))
    assert values(words, "-netdev") == ["stream,id=net0,addr.type=fd,addr.str=9"]
    assert not [word for word in words if "guestfwd" in word or "/t/nc" in word]
    # The same card as with the user network, so that a snapshot of the one is restored with the other.
    cards = [word for word in words if word.startswith("virtio-net")]
    assert cards == [word for word in arguments(network=NETWORK) if word.startswith("virtio-net")]


def test_no_network_means_no_card() -> None:
    assert "-netdev" not in arguments(network=None)
    assert "restrict=on" in values(arguments(network=Network()), "-netdev")[0].split(",")


def test_no_channel_means_no_port() -> None:
    spec = dataclasses.replace(SPEC, channel=False)
    words = qemu_arguments(spec, fds={"qmp": 3, "console": 4}, connect=[], data=[])
    assert not [word for word in words if "virtserialport" in word or "channel" in word]


@pytest.mark.parametrize(
    "path, word",
    [
        ("/r/a b.sock", "'/r/a b.sock'"),
        ("/r/it's.sock", r"'/r/it'\''s.sock'"),
        ("/r/$(id).sock", "'/r/$(id).sock'"),
        ("/r/#a;b|c&.sock", "'/r/#a;b|c&.sock'"),
        ("/r/a,b.sock", "'/r/a,,b.sock'"),
        ("/r/a\\b.sock", "'/r/a\\b.sock'"),
    ],
)
def test_a_sockets_path_is_one_word_of_the_command(path: str, word: str) -> None:
    network = Network(guest_forwards=(GuestForward(443, Path(path)),))
    option = values(arguments(network=network), "-netdev")[0]
    assert option.endswith(f"-cmd:/t/nc -N -U {word}")
    # A shell of the same rules gets the path back.
    command = option.partition("-cmd:")[2].replace(",,", ",")
    assert shlex.split(command) == ["/t/nc", "-N", "-U", path]


@pytest.mark.parametrize("path, written", [("/a b/c", "/a b/c"), ("/a,b=c,,d/e", "/a,,b=c,,,,d/e"), ("/é", "/é")])
def test_commas_in_paths_are_no_options(path: str, written: str) -> None:
    words = arguments(drives=(Drive(Path(path), "disk"),), memory=Memory(GIB, Path(path)))
    assert f"file.filename={written},file.locking=off" in values(words, "-blockdev")[0]
    assert f"mem-path={written},share=off" in values(words, "-object")[0]


def test_a_name_is_no_option() -> None:
    assert values(arguments(name="a,debug-threads=on"), "-name") == ["sandbox-a,,debug-threads=on"]


@pytest.mark.parametrize("character", ["\n", "\0", "\t", "\x1b"])
def test_control_characters_are_refused(character: str) -> None:
    path = Path(f"/a{character}b")
    for changes in (
        {"drives": (Drive(path, "disk"),)},
        {"memory": Memory(GIB, path)},
        {"network": Network(guest_forwards=(GuestForward(443, path),))},
        {"name": f"a{character}b"},
    ):
        with pytest.raises(VmmError, match="control characters"):
            arguments(**changes)


def test_quote_leaves_other_values_alone() -> None:
    assert quote("/a b/ü='\"$") == "/a b/ü='\"$"


def test_mitigations_stay_on_in_the_guest() -> None:
    assert "mitigations" not in kernel_arguments()
    assert kernel_arguments(role="builder").split()[-1] == "sandbox.role=builder"
