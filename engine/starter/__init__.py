"""First Sandboxfiles: from a template, from what a project shows, or from another tool's file.

    look at the project, or convert a file -> proposals -> laid into a template -> checked -> written

Everything but the first and the last step is text to text. Files of a project are untrusted: they are read up to a
limit and never run, and what they say reaches the new file and the terminal only as values that were checked.
"""
