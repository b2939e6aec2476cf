"""guestd, the guest's end of the channel: it runs what the host asks for, in every sandbox, as root.

The folder is a program: the initramfs carries it as /usr/lib/sandbox/guestd, where it is started as a directory and is
already running inside a memory snapshot. After a restore it simply finds itself talking to a new host. There it has the
standard library and nothing else, hence relative imports only; the host imports `wire` of it, and no other module.
"""
