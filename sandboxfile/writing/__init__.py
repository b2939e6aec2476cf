"""Editing a file of the user's, and writing one anew."""
