"""Progress and tables as text, for people and for programs."""
