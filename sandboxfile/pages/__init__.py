"""The JSON schema and the reference page, which are generated from the models."""
