import os

import httpx

headers = {"authorization": f"Bearer {os.environ['VENDOR_KEY']}"}
for http2 in (False, True):
    with httpx.Client(http2=http2, headers=headers, timeout=60) as client:
        answer = client.post("https://api.example.com/httpx", content=b"body")
        print(answer.http_version, answer.text, end="")
