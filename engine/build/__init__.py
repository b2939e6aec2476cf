"""From a checked file to cache entries: one blueprint a file, the nodes of its chain, and what carries them out."""
