"""Attempts to get out of a sandbox: what each claims, what root in the guest does, what both sides must see of it.

What the guest tries is data (`cases/*.toml`); what is tried and looked at on the host is in `host/`. `run.py` makes a
throw-away sandbox on a stage of its own and takes it through its states. Nothing of it is loaded by any other command.
"""
