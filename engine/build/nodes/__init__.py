"""The build chain: from a toolchain to a snapshot of a machine whose services are healthy."""
