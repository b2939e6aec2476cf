"""The steps of the build chain that run in a guest, one kind in each file."""
