"""Writing a store of texts.

A store is a folder: `rows.arrow` has the ids, titles and texts in record batches, `language` a number for each row,
`hash` the sorted hashes of the ids and `row` the row that each belongs to, and `store.json` says what there should be.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from beir_hybrid.errors import BeirHybridError

VERSION = 1
# A batch is whole in memory while it is written or streamed; it ends at the first of the two.
BATCH_ROWS = 16_384
BATCH_CHARACTERS = 2**20
LONGEST_ROW = 64 * 2**20  # characters; keeps a batch far below the 2 GiB that its 32-bit offsets can address
MANIFEST, TABLE, LANGUAGE, HASH, ROW = "store.json", "rows.arrow", "language", "hash", "row"
FILES = {MANIFEST, TABLE, LANGUAGE, HASH, ROW}
# Here and below from buffers: `pa.array` and `pa.scalar` import pandas, to see whether they were given a frame.
_NOTHING = pa.Array.from_buffers(pa.binary(), 1, [None, pa.py_buffer(bytes(8)), pa.py_buffer(b"")])[0]
SCHEMA = pa.schema([("id", pa.string()), ("title", pa.string()), ("text", pa.string())])


class Row(NamedTuple):
    """One text to store."""

    id: str
    title: str
    text: str
    language: str


def write_store(folder: Path, rows: Iterable[Row], what: str) -> None:
    """Write the files of a store into `folder`; whether the ids differ is not looked at.

    Raises:
        BeirHybridError: a text cannot be encoded or is too long, or there are no rows.
    """
    state, languages, starts = hashlib.sha256(), dict[bytes, int](), [0]
    unsorted = folder / "unsorted"
    with (
        pa.OSFile(str(folder / TABLE), "wb") as sink,
        pa.ipc.new_file(sink, SCHEMA) as table,
        open(folder / LANGUAGE, "wb") as language,
        open(unsorted, "wb") as hashed,
    ):
        for batch in _batches(rows, what):
            ids, titles, texts, codes = _encoded(batch, starts[-1], what)
            columns = [string_array(values) for values in (ids, titles, texts)]
            table.write_batch(pa.record_batch(columns, schema=SCHEMA))
            state.update(_with_lengths([*columns, string_array(codes)]))
            numbers = [languages.setdefault(code, len(languages)) for code in codes]
            if len(languages) > np.iinfo(np.int16).max:
                raise BeirHybridError(f"{what}: more than {np.iinfo(np.int16).max} languages; is the field right?")
            language.write(np.array(numbers, dtype="<i2").tobytes())
            hashed.write(hashes(ids).tobytes())
            starts.append(starts[-1] + len(ids))
    if len(starts) == 1:
        raise BeirHybridError(f"{what}: no texts at all; expected at least one.")
    _sort(unsorted, folder)
    manifest = {
        "version": VERSION,
        "digest": state.hexdigest(),
        "languages": [code.decode() for code in languages],
        "bytes": {name: (folder / name).stat().st_size for name in sorted(FILES - {MANIFEST})},
        "starts": starts,
    }
    (folder / MANIFEST).write_text(json.dumps(manifest, ensure_ascii=False) + "\n", encoding="utf-8")


def hashes(ids: list[bytes]) -> npt.NDArray[np.uint64]:
    """A 64-bit hash of each id; part of the format, as it is what `hash` is sorted by."""
    digests = b"".join([hashlib.blake2b(identifier, digest_size=8).digest() for identifier in ids])
    return np.frombuffer(digests, "<u8")


def _batches(rows: Iterable[Row], what: str) -> Iterator[tuple[list[str], ...]]:
    """The four columns of each batch. Rows are not kept: thousands of tuples alive make the garbage collector busy."""
    batch: tuple[list[str], ...] = ([], [], [], [])
    characters = 0
    for identifier, title, text, language in rows:
        ids, titles, texts, languages = batch
        ids.append(identifier)
        titles.append(title)
        texts.append(text)
        languages.append(language)
        length = len(identifier) + len(title) + len(text) + len(language)
        if length > LONGEST_ROW:
            raise BeirHybridError(
                f"{what}, id {identifier[:80]!r}: {length} characters; at most {LONGEST_ROW} are stored."
            )
        characters += length
        if len(ids) >= BATCH_ROWS or characters >= BATCH_CHARACTERS:
            yield batch
            batch, characters = ([], [], [], []), 0
    if batch[0]:
        yield batch


def _encoded(batch: tuple[list[str], ...], start: int, what: str) -> list[list[bytes]]:
    """The columns of a batch, as UTF-8; `start` is its first row."""
    try:
        return [list(map(str.encode, column)) for column in batch]
    except UnicodeEncodeError as error:
        row = next(row for row, values in enumerate(zip(*batch, strict=True)) if error.object in values)
        raise BeirHybridError(
            f"{what}, row {start + row} (from 0), id {batch[0][row]!r}: half of a surrogate pair "
            f"({error.object[error.start]!r}), which is no text; repair the source."
        ) from None


def string_array(values: list[bytes]) -> pa.StringArray:
    """A column of strings, from their UTF-8; together they must be below 2 GiB."""
    offsets = np.zeros(len(values) + 1, dtype=np.int32)
    np.cumsum(np.fromiter(map(len, values), np.int32, len(values)), out=offsets[1:])
    return pa.Array.from_buffers(
        pa.string(), len(values), [None, pa.py_buffer(offsets), pa.py_buffer(b"".join(values))]
    )


def _with_lengths(columns: list[pa.StringArray]) -> pa.Buffer:
    """Row by row, each value with its length in bytes before it: what is hashed must not depend on batches."""
    parts = []
    for column in columns:
        lengths = np.diff(np.frombuffer(column.buffers()[1], np.int32)).astype("<i4")
        prefix = pa.Array.from_buffers(pa.binary(4), len(column), [None, pa.py_buffer(lengths)])
        parts += [prefix.cast(pa.binary()), column.cast(pa.binary())]
    return pc.binary_join_element_wise(*parts, _NOTHING).buffers()[2]


def _sort(unsorted: Path, folder: Path) -> None:
    """Write the hashes in ascending order and the rows that they belong to."""
    unordered = np.fromfile(unsorted, "<u8")
    unsorted.unlink()
    rows = np.argsort(unordered, kind="stable")  # stable: rows that share a hash stay in order
    rows.astype("<i8", copy=False).tofile(folder / ROW)
    with open(folder / HASH, "wb") as stream:
        for start in range(0, len(rows), BATCH_ROWS):  # in pieces: a third array of this size is not needed
            stream.write(unordered[rows[start : start + BATCH_ROWS]].tobytes())
