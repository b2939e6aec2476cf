"""What runs in the guest as root, from its standard library alone: `engine/attacks/batch.py` takes it there."""
