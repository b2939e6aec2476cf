curl --http2 -sS -m 60 -d body -H "authorization: Bearer $VENDOR_KEY" https://api.example.com/curl2
