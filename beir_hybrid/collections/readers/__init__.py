"""Collections in: what is published in which layout."""
