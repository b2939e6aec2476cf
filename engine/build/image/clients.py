"""Prints, as JSON, where the guest's package clients fetch from: group -> URLs. Runs in the guest's new root."""

import json
import subprocess
import sys
from pathlib import Path


def npm() -> list[str]:
    asked = subprocess.run(["npm", "config", "get", "registry"], stdout=subprocess.PIPE, check=True, cwd="/")
    return [asked.stdout.decode().strip()]


def pypi() -> list[str]:
    # pip has no command for its defaults.
    from pip._internal.models.index import PyPI

    return [PyPI.simple_url, f"https://{PyPI.file_storage_domain}"]


def debian() -> list[str]:
    lines = Path("/etc/apt/sources.list").read_text().splitlines()
    # "deb [options] URL suite component": the options hold no URL.
    urls = (word for line in lines for word in line.split() if word.startswith(("http://", "https://")))
    return list(dict.fromkeys(urls))


json.dump({"debian": debian(), "npm": npm(), "pypi": pypi()}, sys.stdout, indent=1, sort_keys=True)
