"""Vectors by row, on disk or in memory, read where they are asked for.

A store is a folder: `embeddings.json` says what was encoded with what, and each shard is one file of so many rows in
NumPy's own format, with the SHA-256 of its bytes in its name. Nothing in it is ever unpickled.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from beir_hybrid.encoders.shards import check_shard, count_shards, find_shards, load_array, load_shard, read_manifest
from beir_hybrid.errors import BeirHybridError
from beir_hybrid.files import let_go

FloatArray = npt.NDArray[np.float32]
SHARD_ROWS = 16_384
"""What a shard has by default, and a block of an array: some 50 MB of 768 dimensions."""


class EmbeddingStore:
    """Vectors by row: `store[rows]` and `store[3:9]` are float32 arrays, and so is `np.asarray(store)`.

    Attributes:
        folder: Where it is; None for an array.
        manifest: What was encoded with what; empty for an array.
        shape: Rows and dimensions.
        dtype: How the numbers are kept; what is read is float32.
    """

    def __init__(
        self,
        folder: Path | None,
        manifest: Mapping[str, Any],
        shape: tuple[int, int],
        dtype: npt.DTypeLike,
        shard_rows: int,
        shard: Callable[[int], npt.NDArray[Any]],
    ) -> None:
        self.folder, self.manifest, self.shape, self.dtype = folder, dict(manifest), shape, np.dtype(dtype)
        self._shard_rows, self._shard = shard_rows, shard

    @classmethod
    def open(cls, path: str | Path, *, verify: bool = False) -> EmbeddingStore:
        """The store in a folder, or the one array in a `.npy` file.

        Args:
            path: Where it is.
            verify: Check the SHA-256 of each shard when it is first read. Whether all shards are there in full is
                always checked.

        Raises:
            BeirHybridError: there is none, it is not finished, or it is damaged.
        """
        path = Path(path)
        if path.suffix == ".npy" and not path.is_dir():
            return cls.from_array(load_array(path))
        manifest = read_manifest(path)
        shards = find_shards(path, manifest)
        wanted = count_shards(manifest)
        if len(shards) < wanted:
            raise BeirHybridError(
                f"{path}: {len(shards)} of {wanted} shards are there; encode the same texts into it again, which goes "
                "on with those that are missing."
            )
        shape, opened = (manifest["rows"], manifest["dimension"]), dict[int, npt.NDArray[Any]]()

        def shard(number: int) -> npt.NDArray[Any]:
            if number not in opened:
                if verify:
                    check_shard(shards[number])
                opened[number] = load_shard(shards[number], manifest, number)
            return opened[number]

        return cls(path, manifest, shape, manifest["dtype"], manifest["shard_rows"], shard)

    @classmethod
    def from_array(cls, array: npt.ArrayLike) -> EmbeddingStore:
        """Vectors that are there already, shape (rows, dimensions); a mapped array is read where it is asked for.

        Raises:
            BeirHybridError: it is not an array of numbers with two axes.
        """
        found = np.asanyarray(array)  # a mapped file stays one
        if found.ndim != 2 or found.dtype.kind not in "fiu":
            raise BeirHybridError(
                f"embeddings of shape {found.shape} and type {found.dtype}; expected numbers, one row for each text."
            )

        def shard(number: int) -> npt.NDArray[Any]:
            return found[number * SHARD_ROWS : (number + 1) * SHARD_ROWS]

        return cls(None, {}, (found.shape[0], found.shape[1]), found.dtype, SHARD_ROWS, shard)

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def dimension(self) -> int:
        """Numbers of a vector."""
        return self.shape[1]

    def __repr__(self) -> str:
        where = "in memory" if self.folder is None else repr(str(self.folder))
        return f"{type(self).__name__}({where}, {len(self)} rows of {self.dimension}, {self.dtype})"

    def __getitem__(self, key: int | slice | Sequence[int] | npt.NDArray[Any]) -> FloatArray:
        """One row, shape (dimension,), or some, shape (rows, dimension): a slice, row numbers, or a mask."""
        if isinstance(key, slice):
            rows = range(len(self))[key]
            if rows.step == 1:
                return self._run(rows.start, rows.stop)
            return self._gather(np.arange(rows.start, rows.stop, rows.step))
        if isinstance(key, Sequence | np.ndarray) and np.ndim(key) == 1:
            return self._gather(self._rows(np.asarray(key)))
        row: FloatArray = self._gather(self._rows(np.array([operator.index(key)])))[0]  # type: ignore[arg-type]
        return row

    def __iter__(self) -> Iterator[FloatArray]:
        for _, block in self.blocks():
            yield from block

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> npt.NDArray[Any]:
        if copy is False:
            raise ValueError("a store can only be copied into an array")
        return self[:].astype(dtype or np.float32, copy=False)

    def blocks(self) -> Iterator[tuple[int, FloatArray]]:
        """All rows, in order: the first row of each shard, and the shard. One of float32 is the mapped file itself."""
        for number in range(-(-len(self) // self._shard_rows)):
            shard = self._shard(number)
            yield number * self._shard_rows, np.asarray(shard, dtype=np.float32)
            let_go(shard)

    def verify(self) -> None:
        """Compare every shard's bytes with its SHA-256.

        Raises:
            BeirHybridError: a shard is damaged.
        """
        if self.folder is not None:
            for shard in find_shards(self.folder, self.manifest).values():
                check_shard(shard)

    def _rows(self, key: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
        if key.dtype == bool:
            if len(key) != len(self):
                raise IndexError(f"a mask of {len(key)} for {len(self)} rows")
            return np.flatnonzero(key)
        if len(key) and key.dtype.kind not in "iu":
            raise IndexError(f"rows are numbers, not {key.dtype}")
        rows = np.where(key < 0, key + len(self), key).astype(np.int64) if len(key) else np.empty(0, np.int64)
        wrong = rows[(rows < 0) | (rows >= len(self))]
        if len(wrong):
            raise IndexError(f"row {wrong[0]} of {len(self)}")
        return rows

    def _run(self, start: int, stop: int) -> FloatArray:
        found = np.empty((max(stop - start, 0), self.dimension), dtype=np.float32)
        while start < stop:
            number, first = divmod(start, self._shard_rows)
            shard = self._shard(number)
            part = shard[first : first + stop - start]
            found[len(found) - (stop - start) :][: len(part)] = part
            let_go(shard)
            start += len(part)
        return found

    def _gather(self, rows: npt.NDArray[np.int64]) -> FloatArray:
        """Shard by shard, and ascending in each: a disk likes that better than the order asked for."""
        found = np.empty((len(rows), self.dimension), dtype=np.float32)
        order = np.argsort(rows, kind="stable")
        numbers = rows[order] // self._shard_rows
        for places in np.split(order, np.flatnonzero(np.diff(numbers)) + 1) if len(rows) else []:
            number = int(rows[places[0]]) // self._shard_rows
            shard = self._shard(number)
            found[places] = shard[rows[places] - number * self._shard_rows]
            let_go(shard)
        return found
