"""Mounting and unmounting what the host lends."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import socket
import threading
import time
from typing import Any

from .failure import Failure, Json

NETLINK_KOBJECT_UEVENT = 15


def mount(request: Json, cancelled: threading.Event) -> Json:
    """Mount a virtiofs tag at `target`, which is made when missing. A hot-plugged tag may still be on its way: then try
    again at each kernel event about a device, until the deadline."""

    tag, target, kind = request["tag"], request["target"], request.get("fstype") or "virtiofs"
    deadline = time.monotonic() + float(request.get("timeout_s") or 10)
    flags = ctypes.c_ulong(1 if request.get("ro") else 0)
    options = (request.get("options") or "").encode() or None
    os.makedirs(target, exist_ok=True)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_KOBJECT_UEVENT) as events:
        events.bind((0, 1))  # before the first try, so that no event falls in between
        while error := libc_call("mount", tag.encode(), target.encode(), kind.encode(), flags, options):
            left = deadline - time.monotonic()
            if error != errno.EINVAL or kind != "virtiofs" or left <= 0 or cancelled.is_set():
                hint = "the device did not appear in time" if error == errno.EINVAL and left <= 0 else ""
                raise Failure(f"cannot mount {tag} at {target}: {os.strerror(error)}", hint=hint)
            # The driver may bind a moment after its event; hence not only the next event, but also soon.
            events.settimeout(max(0.001, min(left, 0.05)))
            with contextlib.suppress(OSError):  # timed out, or events were lost: either way try again
                events.recv(65536)
    return {}


def libc_call(name: str, *arguments: Any) -> int:
    """0, or the errno."""
    call = getattr(ctypes.CDLL(None, use_errno=True), name)
    return ctypes.get_errno() if call(*arguments) else 0
