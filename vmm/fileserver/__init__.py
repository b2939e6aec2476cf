"""The file server of a live mount: one process, one directory, one guest that is not trusted.

It speaks vhost-user to QEMU and FUSE to the guest's kernel (the pair is called virtiofs). It is our own and not
virtiofsd because four promises cannot be kept with that: what either side has written is what the other opens, without
a moment of caching (virtiofsd 1.13 has no lifetime between none with uncached reads and one second); file locks hold
across the boundary (it refuses them, and the guest then locks against itself alone); any number of files under any
limit of descriptors (it holds one for each file the guest remembers); and files that the guest cannot write whatever
name, link or open handle it has. docs/architecture.md has the measurements.

Standard library only: it runs as `python -I -S`, and everything it needs is loaded before it shuts itself in.
"""

READY = "ready"  # what the process reports once it has shut itself in
BEGUN = "begun"  # what it reports once QEMU has begun with the device, as the guest's driver has asked it to
ANSWERED = "answered"  # what its stand-in reports once nothing is open that it was asked (stand_in.py)
