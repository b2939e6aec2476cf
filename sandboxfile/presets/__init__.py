"""Presets: what a group, or a repository, stands for at its hosts. The facts are the YAML files of this folder."""
