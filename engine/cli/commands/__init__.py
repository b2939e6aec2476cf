"""The commands, one file for each. A command parses its arguments, calls a use case and shows the result."""
