"""What a checked file means on this host: paths, ports, registries, capacity."""
