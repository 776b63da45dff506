"""Indexes of Faiss as files: exact ones as a stream, and those of its factory."""
