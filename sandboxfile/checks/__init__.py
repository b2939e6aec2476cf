"""Checks of a file beyond the types of its values."""
