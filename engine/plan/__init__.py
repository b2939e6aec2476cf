"""What has to be built and what has changed: value to value, nothing is done here."""
