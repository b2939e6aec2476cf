"""What is tried, or looked at, on the host's side of a sandbox whose guest is hostile: groups of checks."""
