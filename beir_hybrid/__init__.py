"""Hybrid batch training and evaluation of multilingual retrievers, for BEIR and Pyserini."""
