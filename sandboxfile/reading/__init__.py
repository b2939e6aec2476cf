"""From text to values with their places: YAML, variables, layers."""
