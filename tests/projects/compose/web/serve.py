"""Answers each request with how many there have been, which the database counts."""

import os
from http.server import BaseHTTPRequestHandler, HTTPServer

import redis

database = redis.Redis(os.environ["DATABASE"])


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        said = f"checked {database.incr('requests')}\n".encode()
        self.send_response(200)
        self.send_header("content-length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)


HTTPServer(("", 8000), Handler).serve_forever()
