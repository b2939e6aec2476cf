pip install -q --no-cache-dir --target . -i https://pypi.example.com/simple tiny
python3 -c 'import tiny; print("tiny", tiny.version)'
