uv pip install -q --no-cache --target . --index-url https://pypi.example.com/simple tiny
python3 -c 'import tiny; print("tiny", tiny.version)'
