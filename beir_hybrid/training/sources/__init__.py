"""Parallel pairs from many places: files of rows, parallel text, ir_datasets, the hub.

Whatever they come from, they are laid out on disk once (`store.py`), in the cache, and mapped from there.
"""

from beir_hybrid.training.sources.hub import read_hub
from beir_hybrid.training.sources.irds import read_ir_datasets
from beir_hybrid.training.sources.pair_files import read_pairs
from beir_hybrid.training.sources.parallel_text import read_parallel_text

__all__ = ["read_hub", "read_ir_datasets", "read_pairs", "read_parallel_text"]
