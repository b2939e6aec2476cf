"""What a file asks of this host, and what the user has agreed to."""
