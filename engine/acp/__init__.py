"""The Agent Client Protocol between an editor of this host and an agent in a guest: what passes, with whose paths."""
