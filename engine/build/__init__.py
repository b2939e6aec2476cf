"""From a checked file to cache entries: the blueprint of a file, the nodes of its chain, and their execution."""
