"""Files: fetched, read line by line, and laid out on disk."""
