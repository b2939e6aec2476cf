"""Writing a first Sandboxfile, from a template, from what a project contains, or from the file of another tool.

    look at the project, or convert a file -> proposals -> laid into a template -> checked -> written

Only the first and the last step touch the disk. Files of a project are untrusted: they are read up to a limit and never
run, and what they say reaches the new file and the terminal only as values that were checked.
"""
