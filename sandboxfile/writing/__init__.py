"""Editing a Sandboxfile in place, and writing one from a value."""
