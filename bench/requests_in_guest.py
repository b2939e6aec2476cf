"""Runs in the guest, as text on python3's standard input: requests to the gateway, by one of the ways below.

Arguments: the way, how many, how many at once. Prints a JSON object: seconds for all of it, seconds to each first
byte, errors by kind.
"""

import json
import socket
import sys
import threading
import time
from collections import Counter

GATEWAY = ("10.0.2.100", 80)
LIMIT_S = 120.0


def fetch(path: str) -> float:
    """Seconds from the call to the first byte of the answer, on a connection of its own; the rest is read as well.

    Raises EOFError when the answer is cut. Does not wait for the server's end: under the user network it comes late.
    """
    began = time.perf_counter()
    with socket.create_connection(GATEWAY, LIMIT_S) as connection:
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: bench.example.com\r\nConnection: close\r\n\r\n".encode())
        data = connection.recv(1 << 17)
        first = time.perf_counter() - began
        while b"\r\n\r\n" not in data:
            if not (more := connection.recv(1 << 17)):
                raise EOFError("no answer")
            data += more
        head, _, body = data.partition(b"\r\n\r\n")
        left = int(head.lower().partition(b"content-length:")[2].split()[0]) - len(body)
        while left:
            if not (count := len(connection.recv(min(left, 1 << 17)))):
                raise EOFError("a cut answer")
            left -= count
        return first


def main() -> None:
    path, count, at_once = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    errors: Counter[str] = Counter()
    seconds: list[float] = []
    left = iter(range(count))
    lock = threading.Lock()
    together = threading.Barrier(at_once)

    def work() -> None:
        together.wait()
        while True:
            with lock:
                if next(left, None) is None:
                    return
            try:
                seconds.append(fetch(path))
            except OSError as error:
                errors[type(error).__name__] += 1
            except EOFError as error:
                errors[str(error)] += 1

    threads = [threading.Thread(target=work) for _ in range(at_once)]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(json.dumps({"seconds": time.perf_counter() - began, "each": seconds, "errors": errors}))


main()
