"""What is kept on disk about sandboxes, and where. Knows no Sandboxfile."""
