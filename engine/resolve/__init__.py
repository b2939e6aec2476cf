"""A checked file in the words of this host."""
