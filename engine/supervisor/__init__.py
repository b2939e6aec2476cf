"""The process of one sandbox. Knows no Sandboxfile."""
