"""The use cases, one verb in each file: what a command, a program or a server can do with sandboxes.

Nothing here needs a terminal.
"""
