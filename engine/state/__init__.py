"""What is kept on disk about sandboxes, and where. Nothing here knows the format of Sandboxfiles."""
