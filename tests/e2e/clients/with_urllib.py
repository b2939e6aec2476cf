import os
import urllib.request

headers = {"authorization": f"Bearer {os.environ['VENDOR_KEY']}"}
request = urllib.request.Request("https://api.example.com/urllib", b"body", headers)
print(urllib.request.urlopen(request, timeout=60).read().decode(), end="")
