"""One machine on its network, for builds and sandboxes alike."""
