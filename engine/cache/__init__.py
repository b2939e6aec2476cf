"""Content-addressed entries on disk, and the space that they take."""
