"""Run by root in the guest: takes the virtiofs devices from the kernel and speaks FUSE to the host by itself.

`raw_fuse.py OUTSIDE MOUNT...`: OUTSIDE is a directory of the host beside the shared ones; each MOUNT is a mount point,
unmounted first. Prints JSON: for each tag, what was tried with its errno, "done" or "silent". The device itself is
`engine/attacks/guest/fuse.py`, which comes along.
"""

# The calls themselves are what is tried.
# ruff: noqa: PTH103, PTH119, PTH120, PTH123, PTH207

import errno
import glob
import json
import os
import stat
import struct
import subprocess
import sys
from pathlib import Path

from engine.attacks.guest.fuse import (
    BATCH_FORGET,
    CREATE,
    FALLOCATE,
    GETATTR,
    IOCTL,
    LINK,
    LOOKUP,
    MKNOD,
    OPEN,
    OPENDIR,
    PAGE,
    READ,
    READDIR,
    SETATTR,
    SETUPMAPPING,
    SYMLINK,
    UNLINK,
    WRITE,
    Device,
    Silent,
)
from engine.attacks.guest.fuse import naming as make_requests
from engine.attacks.guest.fuse import text as z


def attack(device, outside):
    results = {}

    def attempt(label, operation, node, body, **options):
        try:
            error, data = device.ask(operation, node, body, **options)
        except Silent:
            results[label] = "silent"
            device.start()
            return b""
        results[label] = errno.errorcode.get(error, str(error)) if error else "done"
        return data if not error else b""

    def look_up(name, parent=1):
        error, data = device.ask(LOOKUP, parent, z(name))
        return struct.unpack_from("<Q", data)[0] if not error else 0

    device.start()
    file, directory = look_up("file"), look_up("directory")
    assert file and directory, "the share is not what the test made"
    names = {
        "absolute": f"{outside}/victim", "absolute new": f"{outside}/new", "up": "../outside/victim", "dots": "..",
        "far up": "../" * 30 + outside.lstrip("/") + "/victim", "dot": ".", "down and up": "directory/../..",
        "down": "directory/below", "empty": "", "NUL": b"fi\0le", "256": "n" * 256, "4096": "n" * 4096,
    }  # fmt: skip
    for label, name in names.items():
        for node in (1, directory):
            for what, operation, body in make_requests(name, file):
                attempt(f"{label}: {what} at {node}", operation, node, body)
                attempt(f"{label}: {what} at {node} without NUL", operation, node, body[:-1])
    for node in (0, 999_999, 1 << 63, (1 << 64) - 1):
        for what, operation, body in make_requests("new", file):
            attempt(f"node {node}: {what}", operation, node, body)
        attempt(f"node {node}: getattr", GETATTR, node, bytes(16))
        attempt(f"node {node}: open", OPEN, node, struct.pack("<II", os.O_RDWR, 0))
    for handle in (0, 999, (1 << 64) - 1):
        attempt(f"handle {handle}: read", READ, file, struct.pack("<QQIIQII", handle, 0, 100, 0, 0, 0, 0))
        attempt(f"handle {handle}: write", WRITE, file, struct.pack("<QQIIQII", handle, 0, 4, 0, 0, 0, 0) + b"evil")
    # Links of ours, and what lies behind them.
    for name, target in (("link", outside), ("link-file", f"{outside}/victim"), ("link-up", "../outside")):
        device.ask(SYMLINK, 1, z(name) + z(target))
        if link := look_up(name):
            attempt(f"{name}: open", OPEN, link, struct.pack("<II", 0, 0))
            attempt(f"{name}: opendir", OPENDIR, link, struct.pack("<II", 0, 0))
            attempt(f"{name}: lookup below", LOOKUP, link, z("victim"))
            attempt(f"{name}: create below", CREATE, link, struct.pack("<IIII", os.O_RDWR, 0o644, 0, 0) + z("new"))
            device.ask(UNLINK, 1, z(name))
    # Protected files.
    device.ask(MKNOD, 1, struct.pack("<IIII", stat.S_IFREG | 0o644, 0, 0, 0) + z("other"))
    for name in ("Sandboxfile.yaml", "Sandboxfile.local.yaml", "SANDBOXFILE.LOCAL.YAML"):
        for what, operation, body in make_requests(name, file):
            if operation != LOOKUP:
                attempt(f"protected {name}: {what}", operation, 1, body.replace(z("file"), z("other")))
    kept = look_up("Sandboxfile.yaml")
    if kept:
        for flags in (os.O_WRONLY, os.O_RDWR, os.O_WRONLY | os.O_TRUNC, os.O_WRONLY | os.O_APPEND, os.O_TRUNC):
            attempt(f"protected: open {flags:o}", OPEN, kept, struct.pack("<II", flags, 0))
        for valid in (1, 8, 16 | 32):
            body = struct.pack("<IIQQQQQQIIIIIIII", valid, 0, 0, 0, 0, 1, 1, 0, 0, 0, 0, 0o777, 0, 0, 0, 0)
            attempt(f"protected: setattr {valid}", SETATTR, kept, body)
        attempt("protected: link of it", LINK, 1, struct.pack("<Q", kept) + z("hard"))
        _, data = device.ask(OPEN, kept, struct.pack("<II", 0, 0))
        handle = struct.unpack_from("<Q", data)[0]
        body = struct.pack("<QQIIQII", handle, 0, 4, 0, 0, 0, 0) + b"evil"
        attempt("protected: write by a handle for reading", WRITE, kept, body)
        attempt("protected: fallocate", FALLOCATE, kept, struct.pack("<QQQII", handle, 0, 4096, 0, 0))
    # Requests that are none.
    for length in (0, 39, 41, 5000, 0xFFFFFFFF):
        attempt(f"malformed: length {length}", LOOKUP, 1, z("file"), length=length)
    attempt("malformed: operation 9999", 9999, 1, b"")
    attempt("malformed: ioctl", IOCTL, 1, bytes(32))
    attempt("malformed: setupmapping", SETUPMAPPING, 1, bytes(40))
    attempt("malformed: write that lies", WRITE, file, struct.pack("<QQIIQII", 0, 0, 0xFFFFFFFF, 0, 0, 0, 0))
    attempt("malformed: readdir", READDIR, 1, struct.pack("<QQIIQII", 0, 0, 0xFFFFFFFF, 0, 0, 0, 0))
    at = device.memory.at
    for count in (0, 0xFFFFFFFF):
        head = struct.pack("<IIQQIIIHH", 48, BATCH_FORGET, 8, 0, 0, 0, 1, 0, 0) + struct.pack("<II", count, 0)
        device.memory.bytes[PAGE : PAGE + 48] = head
        device.offer([(at[1], 48, 0, 0)])
    assert device.ask(GETATTR, 1, bytes(16))[0] == 0, "it does not answer any more"
    # Queues that are none: the server stops them, and starts again with a driver that begins anew.
    for what, chain in {
        "a loop": [(at[1], 16, 1, 1), (at[1], 16, 1, 0)],
        "outside": [((1 << 63), 64, 1, 1), (at[4], PAGE, 2, 0)],
        "4 GiB": [(at[1], 0xFFFFFFFF, 1, 1), (at[4], PAGE, 2, 0)],
        "writable first": [(at[4], PAGE, 3, 1), (at[1], 64, 0, 0)],
        "a next out of range": [(at[1], 64, 1, 9999)],
    }.items():
        try:
            device.offer(chain, wait_s=1.0)
            results[f"queue: {what}"] = "done"
        except Silent:
            results[f"queue: {what}"] = "silent"
        device.start()
        assert device.ask(GETATTR, 1, bytes(16))[0] == 0 and look_up("file"), "a new driver is not served"
    device.stop()
    return results


def main():
    outside, *mounts = sys.argv[1:]
    for mount in mounts:
        subprocess.run(["umount", "-l", mount], check=True)
    found = [os.path.dirname(path) for path in sorted(glob.glob("/sys/bus/pci/devices/*/device"))]
    devices = []
    for pci in found:
        with open(f"{pci}/device") as file:
            if file.read().strip() != "0x105a":
                continue
        with open("/sys/bus/pci/drivers/virtio-pci/unbind", "w") as file:
            file.write(os.path.basename(pci))
        devices.append(Device(Path(pci)))
    results = {device.tag: attack(device, outside) for device in devices}
    # The kernel's own driver again: the servers are well.
    for device in devices:
        with open("/sys/bus/pci/drivers/virtio-pci/bind", "w") as file:
            file.write(device.pci.name)
        os.makedirs(f"/mnt/{device.tag}", exist_ok=True)
        subprocess.run(["mount", "-t", "virtiofs", device.tag, f"/mnt/{device.tag}"], check=True)
        with open(f"/mnt/{device.tag}/file") as file:
            results[device.tag]["afterwards"] = file.read()
    print(json.dumps(results))


main()
