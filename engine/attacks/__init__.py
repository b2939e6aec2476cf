"""Attempts to get out of a sandbox: what each claims, what root in the guest does, what both sides must see of it.

The cases are data (`cases/*.toml`), and everything here is about data, too: whoever runs them (the tests) brings the
sandbox, its journal and what the names of a case stand for. Nothing of it is loaded by any other command.
"""
