# Each event is acknowledged before the server sends the next: whoever holds them back waits for ever.
import os

import httpx

headers = {"authorization": f"Bearer {os.environ['VENDOR_KEY']}"}
for http2 in (False, True):
    with httpx.Client(http2=http2, headers=headers, timeout=60) as client:
        with client.stream("GET", f"https://api.example.com/sse?{http2}") as answer:
            for line in answer.iter_lines():
                if line.startswith("data:"):
                    print(answer.http_version, line)
                    client.post(f"https://api.example.com/seen?{http2}")
