"""Content-addressed entries on disk, and the room that they take."""
