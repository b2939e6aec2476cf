"""From text to values that know their place: YAML, layers, variables."""
