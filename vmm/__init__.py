"""One machine's life: specification, QEMU's arguments, process, QMP, snapshots, mounts and the channel into the guest.

Knows neither the Sandboxfile nor the engine; the engine builds on it.
"""
