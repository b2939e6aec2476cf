# Loaded as sitecustomize by the processes under test: writes down what reaches beyond the process.
import os
import sys

WATCHED = ("subprocess.Popen", "os.posix_spawn", "os.fork", "os.forkpty", "os.exec", "os.system", "socket.getaddrinfo")


def hook(event, args):
    if event in WATCHED or (event == "socket.connect" and isinstance(args[1], tuple)):
        with open(os.environ["AUDIT_FILE"], "a") as file:  # noqa: PTH123
            file.write(f"{event} {args[1] if event == 'socket.connect' else args[0]!r}\n")


def reach_out():
    """Something to see."""
    import contextlib
    import socket
    import subprocess

    subprocess.run(["true"], check=True)
    with contextlib.suppress(OSError):
        socket.create_connection(("127.0.0.1", 1))


if "AUDIT_FILE" in os.environ:
    sys.addaudithook(hook)
