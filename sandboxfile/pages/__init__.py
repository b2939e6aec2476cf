"""The schema, the reference and the snippets, made from the model."""
