"""Notes in a database, over HTTP: POST /notes with the text, GET /notes lists them."""

import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import psycopg2

DATABASE = {"host": "localhost", "port": 15432, "user": "shop", "dbname": "postgres", "connect_timeout": 10}


def query(statement, *values):
    connection = psycopg2.connect(**DATABASE)
    try:
        with connection, connection.cursor() as cursor:
            cursor.execute(statement, values)
            return cursor.fetchall()
    finally:
        connection.close()


class Notes(BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path != "/notes":
            return self.answer(404, {"error": "there is only /notes"})
        rows = query("SELECT id, text FROM notes ORDER BY id")
        self.answer(200, [{"id": number, "text": text} for number, text in rows])

    def do_POST(self):
        text = self.rfile.read(int(self.headers["Content-Length"])).decode()
        [(number,)] = query("INSERT INTO notes (text) VALUES (%s) RETURNING id", text)
        self.answer(201, {"id": number, "text": text})

    def answer(self, status, value):
        body = json.dumps(value).encode() + b"\n"
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


ThreadingHTTPServer(("", 8081), Notes).serve_forever()
