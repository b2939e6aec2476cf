"""Private copies of directories in a sandbox (`mode: clone`): what is copied, what changed, and the way back."""
