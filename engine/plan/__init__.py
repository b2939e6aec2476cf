"""What has to be built and what has changed. Everything here computes values from values; nothing is carried out."""
