#!/bin/sh
# Stands for a coding agent that works on the API: it runs the tests and writes down what it saw.
set -eu
python3 -m pytest -q -p no:cacheprovider
{ hostname; ls /workspace; } > RESULT.txt
