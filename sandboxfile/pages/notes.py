"""The texts of the reference page that do not come from the models."""

from __future__ import annotations

from sandboxfile.compose.files import MOST_FILES
from sandboxfile.reading.source import MAX_BYTES, MAX_DEPTH, MAX_VALUES

HEAD = """\
# Sandboxfile.yaml

<!-- generated: python -m sandboxfile.pages.reference > docs/reference.md -->

One file describes a sandbox: the machine, what is in it, and everything that it may reach. It is YAML 1.2, it lies in
the project's directory, and it is committed. Nothing in it runs on the host. Whatever it asks of the host beyond the
project's own directory is shown to you, and needs your approval first.

Only `version` is required. A key that is not on this page is an error, which is reported with its place and a
suggestion. A value that would be read differently than it looks is an error, too. `sandbox validate` reports
errors together; whether sections fit together is checked for those that are right by themselves. `sandbox config`
shows the file with all layers and variables resolved, `sandbox plan` shows what `up` would do, and `sandbox add`
changes the file in place.
"""

NOTES = {
    "name": """
The sandbox's name on this host, and its hostname. `sandbox up --name` gives another one.
""",
    "agent": """
What `sandbox up` runs in the terminal when the machine is ready. Either `use` names a definition, which has a command,
hosts and settings, or `command` says what to run. Variables in `command` and `args` are not replaced: `$HOME` in them
is that of the guest.

- The agent's home has a note, in the file where it looks for those of its user (`CLAUDE.md`, `AGENTS.md`, ...): what
  can be reached, which services run, which mounts are read-only, how to ask for another name. It follows changes of
  this file, and the rest of that file stays. `note: false` leaves it out.
- With `keep: true` the agent's sessions and its shell history outlive the machine: `sandbox down`, an idle stop and a
  new machine save them on this host, at most 64 MiB, and the next `up` of the same name brings them back. Settings and
  logins are never kept. What a killed sandbox has not saved is lost. `sandbox down --volumes` removes what is kept.
""",
    "agents": """
Used in place of `agent`. Each entry becomes a sandbox of its own, called NAME-KEY, which shares the rest of the file.
Its sections are laid over the shared ones by the rules of [layers](#layers): `front` may have more endpoints than
`back`, or a machine of another size. `sandbox up` starts all of them, `sandbox up --agent front` only one.
""",
    "machine": """
Sizes have a unit, and all units are powers of 1024: `512MiB`, `4GiB`, `1.5g`. The disk grows as it fills, up to
`disk`. A change of a size needs a new machine. `idle: 8h` stops a sandbox that nobody uses, and `idle: {after: 30m, do:
pause}` pauses it; [docs/lifecycle.md](lifecycle.md) says what counts as use, and what wakes it.

`network_rate` is for all connections through the gateway together, in both directions: a download of 100 MiB at 10MiB/s
takes ten seconds. It is changed while the machine runs. Connections from this host to published ports do not count.

`cpu_weight` counts only while the processors are busy: a sandbox with 50 gets half of what one with 100 gets, and all
of them when nobody else wants them. The numbers are those of Linux's control groups (v2) and of systemd's `CPUWeight`.
Where your user may make such a group, the sandbox's processes are in one, and a change needs no new machine. They are
not moved out of a service, nor out of limits of memory, processors, processes or devices: what you start in
`systemd-run --user --scope -p MemoryMax=4G` stays there. There, and where there is no such group, a weight below 100
becomes the priority of the processes (50 is `nice` 3), which only root can raise again without a new machine, and one
above 100 has no effect; `sandbox plan` and `up` say so. `up` asks before a sandbox gets more than 100.
""",
    "packages": """
The names of packages, as apt has them. They are installed once, in a copy of the booted machine whose only endpoint is
the Debian mirror.
""",
    "setup": """
Each step runs once, in the guest, in the machine that the step before it has left. Its result is a snapshot, which is
used until the step, its `inputs`, or anything before it changes. A step can reach only what `endpoints` names, and it
has no secrets. It does not see the live mounts: the only files of the project that it can read are its `inputs`.
Variables in commands are not replaced.

An input has the same path below the working directory as in the project; `.` is the whole project. In a pattern `*` and
`?` stand for anything but a `/`, and `**` for any directories (`src/**/*.py`). A directory that matches is copied as a
whole. The name of an existing file is never a pattern. No input may be a link or lie behind one.
""",
    "mounts": """
Paths of the host are relative to the file. A mount is live: you see what the agent writes, and the agent sees what you
write. The Sandboxfile itself is never writable in a mount. Directories outside the project need your approval. There
can be 8 live mounts.

The source may be a single file (`{source: ./app.toml, target: /etc/app.toml, mode: ro}`), though not that of the first
mount. Nothing else of its directory is in the machine. What an editor of the host puts in the file's place is seen at
once; who has the old one open in the guest keeps that. In the guest the file can be written, and not be removed,
renamed or replaced: an editor that saves by renaming has to be told to write in place. A file that this host runs
later, or that decides what the sandbox is, must be `ro`.

In a writable mount the guest cannot change what this host runs or obeys later: git's hooks (`.git/hooks`,
`core.hooksPath`, also of your own `~/.gitconfig`, and scripts to which hooks are links) and configuration
(`.git/config`, what it includes, and what else makes git read another one, such as a `HEAD` beside `.git`) with the
programs of the project that it names (filters, `core.fsmonitor`), also of submodules and worktrees that are there at
`up`; `.vscode/tasks.json` and `mcp.json`; and the settings of agents (of `.claude` the `settings.json`,
`settings.local.json`, `hooks`, `skills` and `commands`, `.mcp.json`, `.codex/config.toml`, `.gemini/settings.json`, of
`.cursor` the `mcp.json` and `hooks.json`, `opencode.json` and `opencode.jsonc`, of `.opencode` the `plugin`, `plugins`,
`tool` and `tools`). `sandbox plan --json` lists them. A mount of such a directory itself must be `ro`. They are looked
up at `up`, for the project, the mounts' directories and those between: a repository that the guest makes in another
directory, or a submodule that it adds, has hooks of its own. A file that git tracks is replaced when this host checks
out a branch with another version of it, which the guest may have committed. git works in the guest; what writes
`.git/config` ends with `Read-only file system`: `git config`, `git remote add`, `git push -u`, `git branch -m`, `git
submodule init`, and `git init` where there is no repository. Say it to git for one command (`git -c NAME=VALUE`), do it
on the host, keep it in the guest's own `~/.gitconfig`, or write `protect: false`, about which you are asked.

What `hide` names does not exist for the guest: it cannot list, open, make, rename or link it, also when you make it
later. The patterns are those of .gitignore, relative to `source`; the last one that matches decides, and `!` takes back
what an earlier one hides. Letter case makes no difference, since some file systems have none. With a pattern that has a
slash inside (`config/*.key`), a directory on the way there (`config`) cannot be renamed from the guest, or be a link
that it makes. A name is hidden, not a content: a copy, a hard link of yours, or an editor's temporary file has its own
name (`.env*` covers most of those). What git has committed is in `.git`, too. A path of more than 4096 letters counts
as hidden. What is hidden is left out of build contexts and of `inputs`; an input, a config or a context that is hidden
as a whole is refused. An `env_file` is read all the same, as its line says that containers get the values.

What `local` names is a directory of the guest's own disk, for `node_modules`, `.venv` or `target`: fast, for the
machine's own platform, and not in your way. It begins with what `setup` has left at that place, and otherwise empty;
every new machine begins with that again. The host's own directory of that name is neither seen nor changed, and the
host needs none, also where the mount is `ro`; the directory above it must be there. Paths are plain, without patterns:
`[node_modules, packages/web/node_modules]`. A file or link of the host at such a place is an error, and the
directories on the way there cannot be renamed from the guest. When the host replaces one of those, what lies in it is
gone from the guest's sight until the next new machine. In a private copy, `local` is what is not copied.

A machine cannot fill this host's disk through a writable mount: when a tenth is left of what was free at `up` or
`start` (10 GiB at most, and of the inodes 100,000), it gets `No space left on device` until there is more. `limit` is a
lower bound for one mount: the blocks of all that the machine has written there, and 4 KiB for each name. What it
removes is given back. `sandbox ls` and the journal say when a mount takes no more.
""",
    "endpoints": """
Everything that is not named here is refused at once, with a text that says which line to add; `sandbox journal
--refused` shows it, too. The gateway decides by name, for the machine, its containers and its builds alike. IP
addresses cannot be reached.

- A host without a port stands for its ports 443 and 80.
- `*.example.com` is every name below `example.com`, and not `example.com` itself.
- A group stands for the registries that this host's own client is configured with: `npm` for those of your npm, `pypi`
  for those of your pip, `debian` for those of your apt. Other groups are services, such as `anthropic`: see
  [Presets](#presets).
- A rule that denies beats every rule that allows, in any order.
- `methods`, `paths`, `secret` and `intercept` make the gateway look into requests. All other traffic is passed on
  untouched, and so is what an endpoint with `bypass` speaks of.
- With `protocol: tcp` the name has an address of its own in the guest, which leads to this one host and port, whatever
  the protocol. A sandbox that runs can lose such an endpoint and get it back; a new one needs a new machine.
- `host: localhost` with `port` and `as` is a service of this host; `as` is its name in the guest. It hears requests as
  those for `localhost`. Without `protocol: tcp` it must speak HTTP. Nothing else of this host is reached.
- A name that leads to a private address is refused, unless its endpoint says `private`; loopback, link-local and
  metadata addresses always are.
- A client may hide the name that it asks for behind another (ECH). Browsers send a decoy of that with every
  connection, and nobody but the server can tell the two apart; so both are refused where TLS is passed on untouched.
  With `intercept` they have no effect, and with `ech: allow` they pass: then the guest reaches every name of the same
  servers.
- The gateway goes out through the proxy that `HTTPS_PROXY`, `HTTP_PROXY` or `ALL_PROXY` name when `up` is called, but
  for the names in `NO_PROXY`; of `protocol: tcp` only `ALL_PROXY` speaks. It may be http, https or socks5.
""",
    "secrets": """
The file has only the name of a secret. You have its value: in a variable, in a file, or in your keyring. The gateway
puts the value into requests to the endpoints that name the secret. The guest never has the value, so a secret cannot be
used in `env`, in a service or in a step. Variables in this section are not replaced, and a variable that holds a secret
cannot be used anywhere else in the file.
""",
    "services": """
Services as in the [Compose specification](https://docs.docker.com/reference/compose-file/), run by a Docker in the
machine. Services that mount nothing of the host are started once, and are part of the snapshot when they are healthy.
The others start after the mounts. [The keys of a service](#keys-of-services) are at the end of this page. These things
are different here:

- Build contexts (`additional_contexts`, too), `env_file` and `configs` must be inside the project. They are copied into
  the guest, without the files that a `.dockerignore` (or `NAME.dockerignore` beside the Dockerfile) leaves out. No such
  path may lead through a link.
- A relative path in `volumes` must lie in one of the `mounts`. An absolute path is a path of the guest.
- A published port also appears on this host's loopback address, under the same number.
- `secrets` are refused, and `secrets` and `ssh` of builds: no credential enters the machine.
- A name without a value in `environment` and `build.args` gets that of your environment or `.env`, as `${NAME}` does.
- `external` networks and volumes are refused, unless a step of `setup` runs `docker`: the machine's Docker is new.
- The image `localhost/debian:13` is always there, without a registry.
- `include` takes over services from [Compose files](#compose-files).
""",
    "volumes": """
Each volume that a service uses by name must be declared. Volumes lie on the machine's disk, and are lost with it.
""",
    "profiles": """
A service that has `profiles` is part of the sandbox only while one of them is active: its image is not pulled, and its
ports are free. `--profile NAME` adds one, and so does the variable COMPOSE_PROFILES; `*` is all of them. A service
cannot need one whose profile is not active.
""",
    "ports": """
The ports are offered on the host's loopback address only, and only for TCP. Ports that services publish need no entry.
""",
}

CHAPTERS = {
    "Presets": """
A preset knows a service: which requests to which hosts are reading, and which are more than that. `sandbox endpoints
ls` lists them, and `sandbox endpoints show NAME` shows every request that each `access` allows, and where each fact is
from.

- `{github: acme/shop}` is reading: clone and fetch, GET of the REST API, archives, raw files. `acme/*` is all of an
  owner's repositories, and a list names several. `access: [read, issues]` adds issues, pull requests and comments.
- `push: [agent/*]` adds pushes to these branches, and to no other ref. A pattern is of branches unless it begins with
  `refs/`; `*` stays within a segment, `**` does not. The gateway reads the commands of a push, and nothing of one that
  names another ref goes on. `changes` says what may become of the refs: `create`, `update` and `delete`, by default
  create and update. An update may be a forced one: that cannot be told apart. Signed pushes, push options and
  uploads to LFS are refused.
- GraphQL is refused unless `access` names `graphql`: it is one address for everything that the token may do.
- `{group: npm, access: read}` is installing without publishing; without `access` a group of registries is everything
  at its hosts. `docker-hub`, `gcr`, `ghcr`, `mcr` and `quay` are for pulling images; `go`, `crates`, `rubygems`,
  `maven`, `packagist`, `hex`, `nuget`, `conda` and `jsr` for fetching what the tools of a language install; vendors of
  models, such as `anthropic` and `openai`, for inference alone: no files, no batches, no account. What a model's own
  tools do at the vendor is not seen. A mirror that this host's Go or Cargo uses needs an endpoint of its own.
- `secret` goes to the hosts that take it: with `{github: acme/shop, secret: github}` it is Basic for git and Bearer for
  the API.

A refused request is told what its endpoint is for, and the edit that would allow it.
""",
    "Layers": """
These are laid over each other; later ones win:

1. Compose files that `services.include` names
2. `Sandboxfile.yaml`
3. `Sandboxfile.local.yaml` beside it, for one machine only: keep it out of version control
4. files of `-f FILE`, in order
5. `--set PATH=VALUE`, in order; `--set PATH+=VALUE` adds to a list

The first three are read without being named on the command line. If one of them is a link, it must not lead out of the
directory of the Sandboxfile.

A layer need not have a `version`. Mappings are merged key by key, and an empty value removes a key. In some lists an
entry replaces the entry with the same identity: mounts have the same identity if they have the same target, endpoints
with the same host and port, ports with the same port of the guest, packages with the same name. Set-up steps are added.
In the sections of Compose, the rules of the Compose specification apply. Any other list is replaced.

    sandbox up --set machine.memory=8GiB --set endpoints+=api.example.com -f ci.yaml

`sandbox config --origins` shows where each value is written.
""",
    "Variables": """
`${NAME}` in a value is replaced by the variable NAME of your environment, else by that of the file `.env` in the
project. It is never replaced in a key, in `version`, in the command line of an agent, in a set-up command, or in
`secrets`.

| written | result |
| --- | --- |
| `${NAME}`, `$NAME` | the value |
| `${NAME:-default}` | the default, where NAME is not set or empty |
| `${NAME-default}` | the default, where NAME is not set |
| `${NAME:?message}`, `${NAME?message}` | an error with this message instead of a default |
| `${NAME:+other}`, `${NAME+other}` | `other` where NAME is set, else nothing |
| `$$` | a dollar sign |

A variable that is not set is an error. In the sections of Compose it becomes an empty text, with a warning, as in
Compose. The value of a variable is always plain text: it cannot bring in keys or further variables.
""",
    "Compose files": f"""
`services: {{include: compose.yaml}}` takes over the services, volumes, networks and configs of a Compose file of the
project; a list names several files. The services of the Sandboxfile itself are laid over them. Paths in an included
file are relative to that file. Its `secrets` that are files of the project become configs at the same path in the
container; all others are refused. `extends: {{file: common.yaml, service: web}}` works in included files and in the
Sandboxfile itself. There can be at most {MOST_FILES} such files, and all of them must be inside the project.
""",
    "YAML": f"""
The file is YAML 1.2: only `true` and `false` are booleans; `yes`, `on`, `12:30` and `2024-01-01` are text. A number
with a leading zero, a duplicate key, a tag other than `!!str`, and an invisible character are errors. Anchors,
aliases and merge keys work; top-level keys that begin with `x-` are a place for anchors. A file has at most {
        MAX_BYTES // 1024
    } KiB, {MAX_VALUES} values and {MAX_DEPTH} levels.
""",
    "Editors": """
[schemas/sandboxfile-1.json](../schemas/sandboxfile-1.json) is the JSON Schema of the file, with a description of every
key; `sandbox config --schema` prints it. For a YAML language server, it is enough that the file begins with this line:

    # yaml-language-server: $schema=../path/to/sandboxfile-1.json

`sandbox validate --json` prints problems with line and column. It also checks the rules that a schema cannot express.
""",
}
