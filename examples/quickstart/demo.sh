#!/bin/sh
# The main job, end to end, on this directory's Sandboxfile.yaml: up, look inside, run the agent, down, look for remains.
set -eu
cd "$(dirname "$0")"
name=demo-$$                    # of its own, so that it cannot meet a sandbox of yours
down() { sandbox down "$name" >/dev/null 2>&1 || true; }
trap down EXIT
trap 'exit 130' INT TERM

began=$(date +%s)
rm -f workspace/RESULT.md
sandbox up --detach --yes --name "$name"
up_s=$(($(date +%s) - began))

echo "== the agent"
sandbox exec "$name" -- ./agent.sh

guest_kernel=$(sandbox exec "$name" -- uname -r)
docker=$(sandbox exec "$name" -- docker info --format '{{.ServerVersion}}, {{.Driver}}, {{.ContainersRunning}} containers on {{.Name}}')
services=$(sandbox exec "$name" -- docker compose ps --format '{{.Service}} {{.Status}}')
reply=$(curl -fsS http://127.0.0.1:8080/ 2>/dev/null || python3 -c 'import urllib.request as u; print(u.urlopen("http://127.0.0.1:8080/").read().decode().strip())')
pid=$(sandbox ls --json | python3 -c "import json,sys; print(next(s['pid'] for s in json.load(sys.stdin) if s['name']=='$name'))")
family=$(ps -o pid= --ppid "$pid" | tr -d ' ' | tr '\n' ' ')

sandbox down "$name"
left=""
for process in $pid $family; do
    case $(ps -o stat= -p "$process" || true) in
        "" | Z*) ;; # gone, or gone and not yet collected by the init of this host
        *) left="$left $process" ;;
    esac
done
remains=$(sandbox ls --json | python3 -c "import json,sys; print([s for s in json.load(sys.stdin) if s['name']=='$name'])")

cat <<TXT

== summary
kernel          guest $guest_kernel, host $(uname -r)
private Docker  $docker
services        $(echo "$services" | tr '\n' ';')
published port  http://127.0.0.1:8080/ said $reply
agent's file    $(tail -n 1 workspace/RESULT.md) (owner here: $(stat -c %U workspace/RESULT.md))
after down      processes left:${left:- none}; instance state: $remains
time            $up_s s until ready, $(($(date +%s) - began)) s in all
TXT
[ -z "$left" ] && [ "$remains" = "[]" ] && [ -s workspace/RESULT.md ]
