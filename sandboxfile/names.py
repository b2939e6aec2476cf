"""Names that several packages need."""

from __future__ import annotations

from pathlib import Path

SECTIONS = ("services", "volumes", "networks", "configs")  # the sections of the file that have the format of Compose

# Groups of endpoints that stand for the package registries of the host's own clients.
GROUPS = ("debian", "npm", "pypi")
# Presets that need to be told what of the service they are for, by a key of an endpoint that has their name.
PARAMETERISED = ("github",)
# Each preset is a file of data; presets/README.md has its form.
PRESET_FOLDER = Path(__file__).with_name("presets")
PRESETS = tuple(sorted(path.stem for path in PRESET_FOLDER.glob("*.yaml")))
# What an endpoint's `group` can be.
NAMED = (*GROUPS, *(name for name in PRESETS if name not in (*GROUPS, *PARAMETERISED)))
# What an endpoint's `access` can be; each preset has some of them.
ACCESS = ("read", "issues", "graphql", "audit", "pull", "inference")
CHANGES = ("create", "update", "delete")
