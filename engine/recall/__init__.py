"""What an `up` looked at and what came of it, so that the next one need not read it all again."""
