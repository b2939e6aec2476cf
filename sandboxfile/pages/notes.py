"""The words of the reference page that no model has."""

from __future__ import annotations

from sandboxfile.compose.files import MOST_FILES
from sandboxfile.reading.source import MAX_BYTES, MAX_DEPTH, MAX_VALUES

HEAD = """\
# Sandboxfile.yaml

<!-- generated: python -m sandboxfile.pages.reference > docs/reference.md -->

One file describes a sandbox: the machine, what is in it, and all that it may reach. It is YAML 1.2, it lies in
the project's directory, and it is committed. Nothing in it runs on the host. Whatever it asks of the host
beyond the project's own directory is shown and approved first.

Only `version` must be there. A key that is not on this page is an error, with its place and a suggestion; so is
a value that would be read differently than it looks. `sandbox validate` says all at once. `sandbox config`
shows the file as it counts, `sandbox plan` what `up` would do about it, `sandbox add` changes it in place.
"""

NOTES = {
    "name": """
The sandbox's name on this host, and its hostname. `sandbox up --name` gives another one.
""",
    "agent": """
What `sandbox up` runs in the terminal when the machine is ready. Either `use` names a definition that brings a
command, hosts and settings with it, or `command` says what to run. `command` and `args` are not interpolated:
`$HOME` in them is the guest's.
""",
    "agents": """
In place of `agent`. Each becomes a sandbox of its own, NAME-KEY, that shares the rest of the file. Its sections
are laid over the shared ones by the rules of [layers](#layers): `front` may have more endpoints than `back`, or
another size. `sandbox up` starts all of them, `sandbox up --agent front` one.
""",
    "machine": """
Sizes have a unit, and all units are powers of 1024: `512MiB`, `4GiB`, `1.5g`. The disk grows as it fills;
`disk` is its end. Another size needs a new machine.
""",
    "packages": """
Names as apt knows them. They are installed once, in a copy of the booted machine whose only endpoint is the
Debian mirror.
""",
    "setup": """
Each step runs once, in the guest, as the machine is after the step before it. Its result is a snapshot that is
used until the step, its `inputs`, or anything before it changes. A step reaches what `endpoints` names and
nothing else, and it has no secrets. It does not see the live mounts: what it reads of the project are its
`inputs`. Commands are not interpolated.

An input has the same path below the working directory as in the project; `.` is all of the project. In a pattern
`*` and `?` stand for anything but a `/`, `**` for any directories (`src/**/*.py`), and a directory that matches is
taken whole. A name that exists is no pattern. No input may be a link or lie behind one.
""",
    "mounts": """
Paths of the host are relative to the file. A mount is live: what the agent writes, you see, and the other way
round. The Sandboxfile itself is never writable in it. Directories outside the project need approval. There can
be 8 live mounts.
""",
    "endpoints": """
Everything that is not named here is refused, at once, with a text that says which line to add (`sandbox journal
--refused` has it, too). The gateway decides by name, for the machine, its containers and its builds alike;
addresses have no road out.

- A host stands for its ports 443 and 80 when no port is given.
- `*.example.com` is every name below `example.com`, and not `example.com` itself.
- A group is what this host's own client is configured with: `npm` is your npm's registry, `pypi` your pip's,
  `debian` your apt's.
- A rule that denies beats every rule that allows, in any order.
- `methods`, `paths` and `secret` make the gateway look into requests. All others are passed on untouched.
- `host: localhost` with `port` and `as` is a service of this host, by a name of its own in the guest.
""",
    "secrets": """
A secret has a name here, and its value on your side: in a variable, in a file, or in your keyring. The gateway
puts it into requests to the endpoints that name it. The guest never has it, so it has no place in `env`, in a
service or in a step. Values of this section are not interpolated, and a variable that a secret comes from
cannot be used anywhere else.
""",
    "services": """
The [Compose specification](https://docs.docker.com/reference/compose-file/), run by a Docker of the machine's
own. Services that do not mount anything of the host are started once and are part of the snapshot, healthy; the
others start after the mounts. [The keys of a service](#keys-of-services) are at the end of this page. What is
different here:

- Build contexts (`additional_contexts` too), `env_file` and `configs` are inside the project; they are copied into
  the guest, without what a `.dockerignore` (or `NAME.dockerignore` beside the Dockerfile) leaves out. No such path
  may lead through a link.
- A relative path in `volumes` must lie in one of the `mounts`. An absolute path is one of the guest.
- A published port is also on this host's loopback address, by its own number.
- `secrets` are refused: no credential enters the machine.
- `localhost/debian:13` is an image that is there without a registry.
- `include` takes services over from [Compose files](#compose-files).
""",
    "volumes": """
Each volume that a service uses by name must be declared. They live on the machine's disk, and end with it.
""",
    "ports": """
Only the loopback address of the host is used, and only TCP. Ports that services publish need no entry.
""",
}

CHAPTERS = {
    "Layers": """
Later ones win:

1. Compose files that `services.include` names
2. `Sandboxfile.yaml`
3. `Sandboxfile.local.yaml` beside it, for one machine only: keep it out of version control
4. files of `-f FILE`, in order
5. `--set PATH=VALUE`, in order; `--set PATH+=VALUE` adds to a list

The first three are read without being named: a link among them must stay in the directory of the Sandboxfile.

A layer need not say `version`. Mappings are merged key by key, and an empty value removes a key. Lists of
things that have an identity are merged by it: mounts by their target, endpoints by host and port, ports by the
guest's port, packages by name. Set-up steps are added. In the sections of Compose, the rules of the Compose
specification hold. Any other list is replaced.

    sandbox up --set machine.memory=8GiB --set endpoints+=api.example.com -f ci.yaml

`sandbox config --origins` says where each value was written.
""",
    "Variables": """
`${NAME}` in a value is replaced by a variable of your environment, else of the file `.env` in the project. In
values only: never in a key, and never in `version`, a command line of an agent, a set-up command, or `secrets`.

| written | is |
| --- | --- |
| `${NAME}`, `$NAME` | the value |
| `${NAME:-default}` | the default, where NAME is not set or empty |
| `${NAME-default}` | the default, where NAME is not set |
| `${NAME:?message}`, `${NAME?message}` | an error with this message instead of a default |
| `${NAME:+other}`, `${NAME+other}` | `other` where NAME is set, else nothing |
| `$$` | a dollar sign |

A variable that is not set is an error; in the sections of Compose it is empty, with a warning, as Compose has
it. What a variable contains is never looked at again: it cannot bring in keys or further variables.
""",
    "Compose files": f"""
`services: {{include: compose.yaml}}` takes over services, volumes, networks and configs of a Compose file of
the project. A list takes several; the file's own services are laid over them. Paths in an included file are
relative to it. Its `secrets` that are files of the project become configs in the same place of the container;
any others are refused. `extends: {{file: common.yaml, service: web}}` works there and in the Sandboxfile itself. At
most {MOST_FILES} files, all of them inside the project.
""",
    "YAML": f"""
YAML 1.2: only `true` and `false` are booleans; `yes`, `on`, `12:30` and `2024-01-01` are text. A number with a
leading zero, a duplicate key, a tag, and a character that no editor shows are errors. Anchors, aliases and
merge keys work; top-level keys that begin with `x-` are a place for anchors. A file has at most {
        MAX_BYTES // 1024
    } KiB, {MAX_VALUES} values and {MAX_DEPTH} levels.
""",
    "Editors": """
[schemas/sandboxfile-1.json](../schemas/sandboxfile-1.json) is the JSON Schema of the file, with a text for
every key; `sandbox config --schema` prints it. With a YAML language server, this first line is enough:

    # yaml-language-server: $schema=../path/to/sandboxfile-1.json

`sandbox validate --json` prints problems with line and column, and knows all the rules that a schema cannot
say.
""",
}
