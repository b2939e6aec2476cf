"""Counts visits in redis and says so as JSON. Standard library only."""

import json
import socket
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


def redis(*words):
    """One command in redis's protocol; returns the reply's first line without its type."""
    request = f"*{len(words)}\r\n" + "".join(f"${len(word)}\r\n{word}\r\n" for word in words)
    with socket.create_connection(("redis", 6379), timeout=5) as connection:
        connection.sendall(request.encode())
        return connection.makefile().readline().strip()[1:]


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/health":
            answer = {"redis": redis("PING")}
        else:
            answer = {"service": "web", "visits": int(redis("INCR", "visits"))}
        body = json.dumps(answer).encode() + b"\n"
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


ThreadingHTTPServer(("0.0.0.0", 8080), Handler).serve_forever()
