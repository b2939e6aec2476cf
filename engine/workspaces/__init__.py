"""How a project comes into its sandbox."""
