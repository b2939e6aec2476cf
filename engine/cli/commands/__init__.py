"""One file a command: it parses, calls, shows."""
