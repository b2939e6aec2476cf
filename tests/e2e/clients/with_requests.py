import os

import requests

headers = {"authorization": f"Bearer {os.environ['VENDOR_KEY']}"}
print(requests.post("https://api.example.com/requests", "body", headers=headers, timeout=60).text, end="")
