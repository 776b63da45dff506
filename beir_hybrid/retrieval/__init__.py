"""Vectors in, rankings out."""
