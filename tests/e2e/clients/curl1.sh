curl --http1.1 -sS -m 60 -d body -H "authorization: Bearer $VENDOR_KEY" https://api.example.com/curl1
