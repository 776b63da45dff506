"""Homes for an export outside Pyserini: a Faiss file with the ids of its rows, and a dataset for the hub."""
