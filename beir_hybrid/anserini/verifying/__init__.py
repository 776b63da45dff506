"""An exported folder, read back by Pyserini itself."""
