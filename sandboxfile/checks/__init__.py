"""What is wrong with a file beyond the type of a value."""
