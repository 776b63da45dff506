"""Texts on disk, mapped into memory: a corpus larger than memory opens at once and is read where it is asked."""

from __future__ import annotations

import contextlib
import operator
import re
import shutil
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, overload

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from filelock import FileLock

from beir_hybrid.collections.storage import storing
from beir_hybrid.collections.storage.storing import Row
from beir_hybrid.errors import BeirHybridError
from beir_hybrid.files import atomic_folder, check_writable, read_json

__all__ = ["Column", "Row", "RowOf", "StoredTexts", "Table", "mapped", "open_or_build", "open_or_make"]

_T = TypeVar("_T")


@dataclass(frozen=True, eq=False, repr=False)
class StoredTexts:
    """Texts by row, read from disk on demand.

    Attributes:
        folder: Where the store is.
        ids, titles, texts: By row. Iterate over them rather than asking row by row: that reads a batch at a time.
        language: By row, a number into `languages`.
        languages: Codes, in the order in which they first appear.
        row_of: Id -> row.
        digest: SHA-256 over every id, title, text and language: two stores with one digest hold the same rows.
    """

    folder: Path
    ids: Sequence[str]
    titles: Sequence[str]
    texts: Sequence[str]
    language: npt.NDArray[np.int16]
    languages: tuple[str, ...]
    row_of: RowOf
    digest: str

    def __len__(self) -> int:
        return len(self.ids)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self.folder)!r}, {len(self)} rows, {len(self.languages)} languages)"

    def find_rows(self, ids: Sequence[str]) -> npt.NDArray[np.int64]:
        """The row of each id; -1 for those that are not here."""
        return self.row_of.find(ids)


def open_or_build(folder: Path, rows: Callable[[], Iterable[Row]], what: str) -> StoredTexts:
    """Open the store in `folder`; where there is none, or a broken or outdated one, build it from `rows` first.

    A store that is whole is taken as it is: whether it holds these rows is not looked at, so name the folder after
    what the rows come from. Two processes do not build at once: the second waits and takes what the first has built.

    Args:
        rows: Called only to build; what it raises comes through.
        what: What the rows are, for errors: `the MIRACL corpus in Finnish`.

    Raises:
        BeirHybridError: two rows have one id, a text cannot be encoded or is too long, there are no rows, or `folder`
            cannot be written or holds something else.
    """

    def make(temporary: Path) -> None:
        storing.write_store(temporary, rows(), what)
        written = _open(temporary)
        if written and (repeat := written.row_of.first_repeat()):
            first, again = repeat
            raise BeirHybridError(
                f"{what}: the id {written.ids[again]!r} comes twice, in rows {first} and {again} (from 0); "
                "ids must differ."
            )

    return open_or_make(folder, _open, make, storing.FILES, what)


def open_or_make(
    folder: Path,
    opened: Callable[[Path], _T | None],
    make: Callable[[Path], None],
    files: AbstractSet[str],
    what: str,
) -> _T:
    """What `opened` finds in `folder`; where that is nothing, `make` fills a folder first, which is there whole or not.

    Args:
        opened: What is in a folder; None where it is not a whole store of this version.
        make: Writes the files of a store into the empty folder it is given.
        files: The names of the files that such a store may have; a folder with others is someone else's.
        what: What is stored, for errors.

    Raises:
        BeirHybridError: `folder` cannot be written, or holds something else.
    """
    if (found := opened(folder)) is not None:
        return found
    with _locked(folder):
        if (found := opened(folder)) is not None:
            return found
        _clear(folder, files)
        with atomic_folder(folder, replace=True) as temporary:
            make(temporary)
        if (found := opened(folder)) is not None:
            return found
    raise BeirHybridError(f"{folder}: the store of {what} cannot be read back; is the disk sound?")


class Column(Sequence[str]):
    """One column of a store."""

    def __init__(self, table: Table, name: str) -> None:
        self._table, self._name = table, name

    def __len__(self) -> int:
        return self._table.starts[-1]

    @overload
    def __getitem__(self, key: int) -> str: ...
    @overload
    def __getitem__(self, key: slice) -> list[str]: ...
    def __getitem__(self, key: int | slice) -> str | list[str]:
        if isinstance(key, slice):
            rows = range(len(self))[key]
            if rows.step == 1:
                return [value for part in self._parts(rows.start, rows.stop) for value in part.to_pylist()]
            return [self[row] for row in rows]
        row = operator.index(key)
        row += len(self) if row < 0 else 0
        if not 0 <= row < len(self):
            raise IndexError(f"row {key} of {len(self)}")
        batch = bisect_right(self._table.starts, row) - 1
        value: str = self._table.column(batch, self._name)[row - self._table.starts[batch]].as_py()
        return value

    def __iter__(self) -> Iterator[str]:
        for part in self._parts(0, len(self)):
            yield from part.to_pylist()

    def _parts(self, start: int, stop: int) -> Iterator[pa.StringArray]:
        starts = self._table.starts
        batch = bisect_right(starts, start) - 1
        while start < stop:
            end = min(stop, starts[batch + 1])
            yield self._table.column(batch, self._name)[start - starts[batch] : end - starts[batch]]
            start, batch = end, batch + 1


class RowOf(Mapping[str, int]):
    """Id -> row, by binary search over the sorted hashes of the ids: nothing is held in memory."""

    def __init__(self, ids: Sequence[str], hashes: npt.NDArray[np.uint64], rows: npt.NDArray[np.int64]) -> None:
        self._ids, self._hashes, self._rows = ids, hashes, rows

    def __len__(self) -> int:
        return len(self._ids)

    def __iter__(self) -> Iterator[str]:
        return iter(self._ids)

    def __getitem__(self, key: str) -> int:
        row = int(self.find([key])[0]) if isinstance(key, str) else -1
        if row < 0:
            raise KeyError(key)
        return row

    def find(self, ids: Sequence[str]) -> npt.NDArray[np.int64]:
        """The row of each id; -1 for those that are not here."""
        wanted = storing.hashes([identifier.encode("utf-8", "surrogatepass") for identifier in ids])
        places = self._hashes.searchsorted(wanted)
        found = np.full(len(ids), -1, dtype=np.int64)
        for number, place in enumerate(places.tolist()):
            # Different ids may share a hash: the ids decide.
            while place < len(self._hashes) and self._hashes[place] == wanted[number]:
                row = int(self._rows[place])
                if self._ids[row] == ids[number]:
                    found[number] = row
                    break
                place += 1
        return found

    def first_repeat(self) -> tuple[int, int] | None:
        """The first row whose id an earlier row has, after that earlier row; None where all ids differ."""
        hashes, rows = self._hashes, self._rows
        shared = np.flatnonzero(hashes[1:] == hashes[:-1]) + 1
        for place in shared[np.argsort(rows[shared])].tolist():
            earlier = place - 1
            while earlier >= 0 and hashes[earlier] == hashes[place]:
                first, again = int(rows[earlier]), int(rows[place])
                if self._ids[first] == self._ids[again]:
                    return first, again
                earlier -= 1
        return None


class Table:
    """The record batches of a store; `starts` has the first row of each, and at the end the number of rows.

    Raises:
        ValueError: the file is not a table of this schema with so many batches.
    """

    def __init__(self, path: Path, starts: list[int], schema: pa.Schema) -> None:
        self.starts = starts
        self._reader = pa.ipc.open_file(pa.memory_map(str(path)))
        self._batches: dict[int, pa.RecordBatch] = {}  # of addresses, not of texts
        if self._reader.schema != schema or self._reader.num_record_batches != len(starts) - 1:
            raise ValueError(f"{path}: not the table that the manifest describes")

    def column(self, batch: int, name: str) -> pa.StringArray:
        if batch not in self._batches:
            self._batches[batch] = self._reader.get_batch(batch)
        return self._batches[batch].column(name)


def _open(folder: Path) -> StoredTexts | None:
    """The store in `folder`; None where there is none, or not a whole one of this version."""
    try:
        manifest = read_json(folder / storing.MANIFEST, "the manifest of a store of texts")
        sizes = {name: (folder / name).stat().st_size for name in storing.FILES - {storing.MANIFEST}}
        if manifest["version"] != storing.VERSION or manifest["bytes"] != sizes:
            return None
        table = Table(folder / storing.TABLE, manifest["starts"], storing.SCHEMA)
        ids = Column(table, "id")
        hashes, rows = (mapped(folder / name, dtype) for name, dtype in ((storing.HASH, "<u8"), (storing.ROW, "<i8")))
        return StoredTexts(
            folder,
            ids,
            Column(table, "title"),
            Column(table, "text"),
            mapped(folder / storing.LANGUAGE, "<i2"),
            tuple(manifest["languages"]),
            RowOf(ids, hashes, rows),
            manifest["digest"],
        )
    except (BeirHybridError, OSError, LookupError, TypeError, ValueError, pa.ArrowException):
        return None


def mapped(path: Path, dtype: str) -> npt.NDArray[Any]:
    """The numbers in a file, which are read from there when they are used."""
    return np.memmap(path, dtype, "r").view(np.ndarray)


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    check_writable(folder)
    path = folder.with_name(f".{folder.name}.lock")
    lock = FileLock(path)
    try:
        lock.acquire()
    except (OSError, NotImplementedError) as error:
        raise BeirHybridError(f"{path}: cannot be locked ({error}); choose a folder on another disk.") from None
    try:
        yield
    finally:
        lock.release()


def _clear(folder: Path, files: AbstractSet[str]) -> None:
    """Refuse a folder of something else; remove what builds that were killed have left beside it."""
    if folder.exists() and not (folder.is_dir() and {entry.name for entry in folder.iterdir()} <= files):
        raise BeirHybridError(f"{folder}: exists and is not a store of texts; name another folder.")
    leftover = re.compile(rf"\.{re.escape(folder.name)}\.[a-z0-9_]{{8}}\.(part|old)")  # as `atomic_folder` names them
    for entry in folder.parent.iterdir():
        if leftover.fullmatch(entry.name):
            shutil.rmtree(entry, ignore_errors=True)
