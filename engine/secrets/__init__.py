"""Values that are not for everybody's eyes."""
