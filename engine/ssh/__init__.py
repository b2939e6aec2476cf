"""OpenSSH into a guest: keys, what its client is told, and how its server starts. Nothing listens anywhere."""
