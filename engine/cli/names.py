"""The names of our commands, in a module of its own: completion and `exec` need the names without the commands."""

from __future__ import annotations

PROGRAM = "sandbox"
COMPLETE = "_SANDBOX_COMPLETE"  # the variable with which the shell asks click for completions

# Section -> name of the command -> what it does. Each command is `command` in the module `commands/NAME.py`.
SECTIONS = {
    "Commands": {
        "init": "Write a first Sandboxfile.yaml.",
        "up": "Start the sandbox that Sandboxfile.yaml describes.",
        "run": "Give the agent one task, in a machine of its own.",
        "exec": "Run a command in a sandbox.",
        "cp": "Copy files into or out of a sandbox.",
        "ls": "List sandboxes.",
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
        "journal": "Show what the network gateway allowed and refused.",
        "allow": "Let a running sandbox reach one more name.",
        "deny": "Refuse a name to a running sandbox.",
        "console": "Show the guest's serial console.",
        "doctor": "Show tools, accelerator and directories.",
        "completion": "Print shell completion for bash, zsh or fish.",
    },
}
COMMANDS = {name: text for section in SECTIONS.values() for name, text in section.items()}
