"""The names of our commands, in a module of its own: completion and `exec` need the names without the commands."""

from __future__ import annotations

PROGRAM = "sandbox"
COMPLETE = "_SANDBOX_COMPLETE"  # the variable with which the shell asks click for completions

# Section -> name of the command -> what it does. Each is `command` in the module `module_of` it.
SECTIONS = {
    "Commands": {
        "init": "Write a first Sandboxfile.yaml.",
        "up": "Start the sandbox that Sandboxfile.yaml describes.",
        "build": "Build what `up` starts from, and start nothing.",
        "run": "Give the agent one task, in a machine of its own.",
        "attach": "Join this terminal to the agent's.",
        "shell": "Open a shell beside the agent.",
        "exec": "Run a command in a sandbox.",
        "diff": "Show what was changed in a private copy.",
        "apply": "Take changes of a private copy over.",
        "sync": "Make a private copy and its directory the same again.",
        "pull": "Take commits of a private copy over, as a branch.",
        "cp": "Copy files into or out of a sandbox.",
        "acp": "Let an editor's agent panel talk to the agent.",
        "ssh-config": "Print what ssh and editors need to reach a sandbox.",
        "ls": "List sandboxes.",
        "restart": "Restart services.",
        "pause": "Write a sandbox to the disk, and end its processes.",
        "resume": "Let a paused sandbox go on.",
        "fork": "Start more sandboxes where a running one is now.",
        "stop": "End a sandbox's machine, and keep its disk.",
        "start": "Boot the disk of a stopped sandbox again.",
        "snapshot": "Keep a running sandbox as it is now.",
        "down": "Stop sandboxes and remove everything they left.",
    },
    "The file": {
        "add": "Add an endpoint, mount, service, port or package.",
        "endpoints": "Show what groups and presets of endpoints stand for.",
        "validate": "Check a Sandboxfile.yaml.",
        "config": "Show the resolved file, and where each value came from.",
        "plan": "Show what `up` would do, and why.",
        "graph": "Draw what is built from what.",
        "trust": "List and revoke what files may ask of this host.",
        "login": "Give an agent what it signs in with.",
        "secret": "Keep the credentials that requests of a sandbox get on their way out.",
    },
    "Looking closer": {
        "logs": "Show what services printed.",
        "stats": "Show what sandboxes use: processors, memory, disk, network.",
        "journal": "Show what the network gateway allowed and refused.",
        "allow": "Let a running sandbox reach one more name.",
        "deny": "Refuse a name to a running sandbox.",
        "console": "Show the guest's serial console.",
        "cache": "Show and shrink what is kept of builds.",
        "doctor": "Show tools, accelerator and directories.",
        "completion": "Print shell completion for bash, zsh or fish.",
    },
}
COMMANDS = {name: text for section in SECTIONS.values() for name, text in section.items()}
# Commands that other programs run, and nobody types.
HIDDEN = ("ssh-proxy",)


def module_of(name: str) -> str:
    """The module of the command `name`."""
    return f"engine.cli.commands.{name.replace('-', '_')}"
