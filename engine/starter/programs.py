"""Programs that commands of other tools' files run, and the group of endpoints that each needs."""

from __future__ import annotations

GROUPS = dict.fromkeys(("npm", "pnpm", "yarn", "bun", "npx"), "npm")
GROUPS |= dict.fromkeys(("pip", "pip3", "uv", "uvx", "poetry", "pipx", "pipenv"), "pypi")
GROUPS |= dict.fromkeys(("apt", "apt-get"), "debian")
GROUPS |= {"cargo": "crates", "bundle": "rubygems", "gem": "rubygems", "go": "go", "composer": "packagist"}
GROUPS |= {"mix": "hex", "mvn": "maven", "mvnw": "maven", "dotnet": "nuget", "conda": "conda", "micromamba": "conda"}
