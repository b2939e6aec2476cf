"""The Compose sections of a file: checking them, and reading them as Compose does."""
