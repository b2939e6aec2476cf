"""What a file wants of this host, and what the user agreed to."""
