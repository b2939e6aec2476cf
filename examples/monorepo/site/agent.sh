#!/bin/sh
# Stands for a coding agent that works on the site: it builds the page and writes down what it saw.
set -eu
node build.mjs
{ hostname; ls /workspace; } > RESULT.txt
