"""What is asked of the machine as a whole: who it is, its files, units and memory."""

from __future__ import annotations

import os
import stat
import subprocess
import threading
import time

from .certificate import renew_dockerd
from .failure import Failure, Json
from .wire import PROTOCOL, VERSION


def read_text(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read().strip()
    except OSError:
        return ""


def describe() -> Json:
    uname = os.uname()
    return {
        "version": VERSION,
        "protocol": PROTOCOL,
        "boot_id": read_text("/proc/sys/kernel/random/boot_id"),
        "kernel": uname.release,
        "hostname": uname.nodename,
    }


def ping(request: Json, cancelled: threading.Event) -> Json:
    return {"time_ns": time.time_ns(), **describe()}


def stat_path(request: Json, cancelled: threading.Event) -> Json:
    """What is at `path`: {kind: missing, file, directory, symlink or other; directory: whether it leads to one}."""
    path = request["path"]
    try:
        mode = os.lstat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        return {"kind": "missing", "directory": False}
    kinds = {stat.S_IFREG: "file", stat.S_IFDIR: "directory", stat.S_IFLNK: "symlink"}
    return {"kind": kinds.get(stat.S_IFMT(mode), "other"), "directory": os.path.isdir(path)}


def wait_unit(request: Json, cancelled: threading.Event) -> Json:
    """Wait until a systemd unit is active. `start` joins a start under way and waits for it, without polling."""
    unit = request["unit"]
    try:
        timeout_s = float(request.get("timeout_s") or 60)
        done = subprocess.run(["systemctl", "start", "--", unit], capture_output=True, timeout=timeout_s)
    except subprocess.TimeoutExpired:
        raise Failure(f"{unit} did not become active within {timeout_s:g} s", unit_status(unit)) from None
    if done.returncode:
        raise Failure(f"{unit} failed", done.stderr.decode(errors="replace") + unit_status(unit))
    return {}


def unit_status(unit: str) -> str:
    argv = ["systemctl", "status", "--no-pager", "--full", "-n", "20", "--", unit]
    return subprocess.run(argv, capture_output=True, timeout=10).stdout.decode(errors="replace")


def trim(request: Json, cancelled: threading.Event) -> Json:
    """Give back what a snapshot should not carry: caches, and the free blocks of `paths`. Answers meminfo, in KiB."""
    notes = []
    renew_dockerd(wait=True)  # a snapshot's clones have other certificates
    os.sync()
    for path in request.get("paths") or ["/"]:
        done = subprocess.run(["fstrim", path], capture_output=True, timeout=float(request.get("timeout_s") or 60))
        if done.returncode:
            notes.append(done.stderr.decode(errors="replace").strip())
    for knob, value in (("drop_caches", "3"), ("compact_memory", "1")):
        try:
            with open(f"/proc/sys/vm/{knob}", "w") as file:
                file.write(value)
        except OSError as error:
            notes.append(f"{knob}: {error.strerror}")
    lines = [line.split() for line in read_text("/proc/meminfo").splitlines()]
    return {"meminfo": {words[0].rstrip(":"): int(words[1]) for words in lines}, "notes": notes}
