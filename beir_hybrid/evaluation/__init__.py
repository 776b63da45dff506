"""Rankings in, figures out."""
