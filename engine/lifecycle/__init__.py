"""One verb a file, without a terminal: what a command, a program or a server does with sandboxes."""
