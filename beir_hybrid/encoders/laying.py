"""Vectors that were made elsewhere, laid out as a store."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from beir_hybrid.encoders.shards import MANIFEST, VERSION, write_shard
from beir_hybrid.encoders.store import SHARD_ROWS
from beir_hybrid.files import write_json


class StoreWriter:
    """Blocks of vectors, of any number of rows, into the shards of a new store; a shard is in memory at a time.

    Args:
        folder: Where the store is to be; it is one only when `close` has been called.
        dimension: Numbers of a vector.
        shard_rows: Rows of a shard.
    """

    def __init__(self, folder: Path, dimension: int, *, shard_rows: int = SHARD_ROWS) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.dimension, self.rows = folder, dimension, 0
        self._shard = np.empty((shard_rows, dimension), dtype=np.float32)

    def add(self, block: npt.NDArray[Any]) -> None:
        """The next rows, shape (rows, dimension)."""
        size = len(self._shard)
        while len(block):
            filled = self.rows % size
            part = block[: size - filled]
            self._shard[filled : filled + len(part)] = part
            self.rows += len(part)
            block = block[len(part) :]
            if self.rows % size == 0:
                write_shard(self.folder, self.rows // size - 1, self._shard)

    def close(self, about: Mapping[str, Any]) -> None:
        """Write what is left, and the manifest, which says `about` too what the vectors are."""
        if filled := self.rows % len(self._shard):
            write_shard(self.folder, self.rows // len(self._shard), self._shard[:filled])
        write_json(
            self.folder / MANIFEST,
            {
                "version": VERSION,
                "rows": self.rows,
                "dimension": self.dimension,
                "dtype": "float32",
                "shard_rows": len(self._shard),
                **about,
            },
        )
