"""The channel between host and guest: CLI <-> supervisor <-> guestd, one multiplex of framed streams.

`guest` is an end that asks, `relay` the supervisor's middle, `client` what a command uses, `copy` moves files, `attach`
joins a command in the guest to this process. The wire itself is described in `vmm.guest.guestd.wire`.

Nothing is imported here: `attach` does without asyncio, which would take half of the start of `sandbox exec`.
"""
