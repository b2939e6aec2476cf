"""The sections of a file as models."""
