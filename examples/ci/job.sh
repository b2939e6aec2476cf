#!/bin/sh
# One job: a machine of its own, the tests in it, their report, their exit code. Works without a terminal.
set -eu
cd "$(dirname "$0")"
name=ci-$$                              # two jobs on one host do not meet
down() { sandbox down "$name" >/dev/null 2>&1 || true; }
trap down EXIT
trap 'exit 130' INT TERM

sandbox up --detach --yes --progress plain --name "$name"
sandbox cp src "$name:/home/agent/src"
sandbox cp test "$name:/home/agent/test"
code=0
sandbox exec "$name" -- npm test || code=$?
sandbox cp "$name:/home/agent/report.xml" report.xml
exit "$code"
