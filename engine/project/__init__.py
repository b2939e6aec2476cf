"""The user's project directory: held open, hashed and copied into guests."""
