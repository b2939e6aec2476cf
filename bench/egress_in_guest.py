"""Runs in the guest, as text on python3's standard input: what a client there waits for, on one road.

Arguments: the task, the address and port to connect to, the server's name, a size in bytes or a count. Prints a JSON
object: seconds of each, errors by kind. Tasks: down, up (one body by curl, HTTP/1.1), down2, up2 (HTTP/2), new (a small
request on a connection of its own, COUNT times), kept (on one that is kept), crowd (COUNT connections at once).
"""

import json
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter

LIMIT_S = 300  # for a large body
WAIT_S = 60  # without a byte


def open_tls(address: str, port: int, name: str) -> ssl.SSLSocket:
    context = ssl.create_default_context()
    # Of the server itself, which the guest does not know, or of the sandbox's CA: what is measured is the same.
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["http/1.1"])
    below = socket.create_connection((address, port), WAIT_S)
    below.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return context.wrap_socket(below, server_hostname=name)


def ask(tls: ssl.SSLSocket, name: str) -> None:
    """One small request on a kept connection. Raises EOFError when the answer is cut."""
    tls.sendall(f"GET / HTTP/1.1\r\nHost: {name}\r\n\r\n".encode())
    data = b""
    while not data.endswith(b"\r\n\r\n\0\0"):
        if not (more := tls.recv(4096)):
            raise EOFError("a cut answer")
        data += more


def move(task: str, address: str, port: int, name: str, size: int) -> float:
    """Seconds of one large body, by curl. Raises CalledProcessError."""
    argv = [
        "curl",
        "-sSk",
        "--fail",
        "--max-time",
        str(LIMIT_S),
        "-o",
        "/dev/null",
        "-w",
        "%{http_version} %{time_total}",
    ]
    argv += ["--http2" if task.endswith("2") else "--http1.1", "--connect-to", f"{name}:443:{address}:{port}"]
    if task.startswith("down"):
        done = subprocess.run([*argv, f"https://{name}/bytes/{size}"], check=True, stdout=subprocess.PIPE, text=True)
    else:
        with tempfile.NamedTemporaryFile() as body:
            body.truncate(size)
            argv += ["-T", body.name, f"https://{name}/sink"]
            done = subprocess.run(argv, check=True, stdout=subprocess.PIPE, text=True)
    version, seconds = done.stdout.split()
    if (version == "2") != task.endswith("2"):
        raise ValueError(f"HTTP/{version} was spoken")
    return float(seconds)


def crowd(address: str, port: int, name: str, count: int, errors: "Counter[str]") -> float:
    """Seconds until all of `count` connections that were opened at once have asked five times."""
    together = threading.Barrier(count + 1)

    def work() -> None:
        together.wait()
        try:
            with open_tls(address, port, name) as tls:
                for _ in range(5):
                    ask(tls, name)
        except (OSError, EOFError) as error:
            errors[repr(error)] += 1

    threads = [threading.Thread(target=work) for _ in range(count)]
    for thread in threads:
        thread.start()
    together.wait()
    began = time.perf_counter()
    for thread in threads:
        thread.join()
    return time.perf_counter() - began


def main() -> None:
    task, address, port, name, size = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4], int(sys.argv[5])
    errors: Counter[str] = Counter()
    seconds = []
    if task == "crowd":
        seconds.append(crowd(address, port, name, size, errors))
    elif task == "kept":
        with open_tls(address, port, name) as tls:
            ask(tls, name)
            for _ in range(size):
                began = time.perf_counter()
                ask(tls, name)
                seconds.append(time.perf_counter() - began)
    elif task == "new":
        for _ in range(size):
            began = time.perf_counter()
            with open_tls(address, port, name) as tls:
                ask(tls, name)
            seconds.append(time.perf_counter() - began)
    else:
        seconds.append(move(task, address, port, name, size))
    print(json.dumps({"each": seconds, "errors": errors}))


main()
