#!/bin/sh
# What a coding agent would do here: start the application, use it, and look into its database.
set -eu
cd "$(dirname "$0")"
notes=http://localhost:8081/notes
if ! curl -fs -o /dev/null $notes; then
    setsid -f python3 app/server.py >/tmp/server.log 2>&1
    timeout 120 sh -c "until curl -fs -o /dev/null $notes; do sleep 1; done"
fi
curl -fsS --data "by $(id -un)" $notes
docker compose exec -T db psql -U shop -d postgres -Atc 'SELECT count(*), max(text) FROM notes'
