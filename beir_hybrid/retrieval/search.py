"""Exact inner-product search: the best k passages, and the ranks of the relevant ones at full depth."""

from __future__ import annotations

from beir_hybrid.retrieval.best import top_k
from beir_hybrid.retrieval.ranks import Progress, RelevantRanks, relevant_ranks

__all__ = ["Progress", "RelevantRanks", "relevant_ranks", "top_k"]
