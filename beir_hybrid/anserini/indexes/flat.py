"""Faiss's file of an exact inner-product index, written as a stream and read where it lies.

The file is a header, the number of floats, and the vectors row by row. Faiss itself can only write one that is in
memory, and read one into memory.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from beir_hybrid.errors import BeirHybridError

FloatArray = npt.NDArray[np.float32]
_ROWS = 8
"""Where the number of rows stands: after four letters and the dimension."""


def write_flat(path: Path, blocks: Iterable[FloatArray], rows: int, dimension: int) -> None:
    """Write the file that `faiss.write_index` makes of an `IndexFlatIP` with these vectors, a block at a time.

    Args:
        blocks: Of shape (some rows, dimension); together `rows` rows.

    Raises:
        BeirHybridError: the blocks are not of that shape.
    """
    written = 0
    with open(path, "wb") as stream:
        stream.write(header(rows, dimension))
        for block in blocks:
            if block.ndim != 2 or block.shape[1] != dimension:
                raise BeirHybridError(f"{path}: vectors of shape {block.shape}; expected {dimension} dimensions.")
            stream.write(np.ascontiguousarray(block, dtype="<f4").data)
            written += len(block)
    if written != rows:
        raise BeirHybridError(f"{path}: {written} vectors for {rows} rows; expected one each.")


def map_flat(path: Path) -> FloatArray:
    """The vectors in such a file, shape (rows, dimension), mapped: nothing is read before it is asked for.

    Raises:
        BeirHybridError: it holds another index, or is cut short.
    """
    start = len(header(0, 1))
    try:
        with open(path, "rb") as stream:
            found = stream.read(start)
    except OSError as error:
        raise BeirHybridError(f"{path}: cannot be read ({error.strerror}); expected a Faiss index.") from None
    rows, dimension = 0, 0
    if len(found) == start:
        dimension, rows = struct.unpack_from("<iq", found, _ROWS - 4)
    if rows < 0 or dimension < 1 or found != header(rows, dimension):
        raise BeirHybridError(f"{path}: not an exact inner-product index of Faiss (IndexFlatIP).")
    if path.stat().st_size != start + rows * dimension * 4:
        raise BeirHybridError(f"{path}: {path.stat().st_size} bytes, not those of {rows} x {dimension}: cut short.")
    if not rows:
        return np.empty((0, dimension), dtype=np.float32)
    return np.memmap(path, dtype="<f4", mode="r", offset=start, shape=(rows, dimension))


def header(rows: int, dimension: int) -> bytes:
    """What stands before the vectors."""
    blank = bytearray(_blank(dimension))
    struct.pack_into("<q", blank, _ROWS, rows)
    struct.pack_into("<q", blank, len(blank) - 8, rows * dimension)
    return bytes(blank)


@functools.lru_cache(maxsize=16)
def _blank(dimension: int) -> bytes:
    """The file of an empty index, from Faiss itself, once it is sure that ours differ in the two numbers alone."""
    import faiss

    index = faiss.IndexFlatIP(dimension)
    empty = faiss.serialize_index(index).tobytes()
    row = np.arange(dimension, dtype=np.float32)
    index.add(row[None])
    ours = bytearray(empty)
    struct.pack_into("<q", ours, _ROWS, 1)
    struct.pack_into("<q", ours, len(ours) - 8, dimension)
    if faiss.serialize_index(index).tobytes() != bytes(ours) + row.astype("<f4").tobytes():
        raise BeirHybridError(
            f"Faiss {faiss.__version__} writes exact indexes in a layout that is not known here; use another version."
        )
    return empty
