"""Commands of docker, compose and lima that have another name here, and the way to what they do."""

from __future__ import annotations

ALIASES = {"ps": "ls", "list": "ls"}
# A word that is no command -> what to type, or why there is nothing to type.
WAYS = {
    "build": "`sandbox up` builds what has changed; `sandbox plan` says what that is.",
    "create": "`sandbox init` writes a file, and `sandbox up -d` starts it.",
    "delete": "`sandbox down` stops a sandbox and leaves nothing behind.",
    "destroy": "`sandbox down` stops a sandbox and leaves nothing behind.",
    "edit": "edit Sandboxfile.yaml, and `sandbox up` applies it.",
    "events": "`sandbox journal -f` follows what the gateway allows and refuses.",
    "images": "images are in the sandbox's own Docker: `sandbox exec -- docker images`.",
    "inspect": "`sandbox ls --json` and `sandbox config`.",
    "kill": "`sandbox down` stops a sandbox and leaves nothing behind.",
    "network": "`endpoints:` in the file says what can be reached; `sandbox journal` says what was.",
    "pause": "`machine: {idle: 30m}` in the file stops a sandbox that nobody uses.",
    "port": "`sandbox ls` shows the ports.",
    "prune": "`sandbox down` leaves nothing of a sandbox; `sandbox doctor` shows where the cache is.",
    "push": "images are in the sandbox's own Docker: `sandbox exec -- docker push IMAGE`.",
    "remove": "`sandbox down` stops a sandbox and leaves nothing behind.",
    "restart": "`sandbox down` and `sandbox up`; a service: `sandbox exec -- docker compose restart SERVICE`.",
    "rm": "`sandbox down` stops a sandbox and leaves nothing behind.",
    "ssh": "`sandbox shell` opens one; `sandbox ssh-config` is for ssh itself, and for editors.",
    "start": "`sandbox up`.",
    "stats": "`sandbox exec -- top` shows the machine; `sandbox ls` the sandboxes.",
    "stop": "`sandbox down`.",
    "top": "`sandbox exec -it -- top`.",
    "volume": "volumes are in the sandbox's own Docker: `sandbox exec -- docker volume ls`.",
    "wait": "`sandbox up -d` returns when the sandbox is ready.",
}
