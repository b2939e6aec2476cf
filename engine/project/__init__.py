"""The user's directory: held open, hashed and sent into guests."""
