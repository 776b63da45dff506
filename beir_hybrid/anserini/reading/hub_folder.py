"""The vectors in a hub dataset: Parquet with a column of ids and one of embeddings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from beir_hybrid.anserini.reading.json_lines import ID_FIELDS
from beir_hybrid.anserini.reading.keyed import KeyedVectors
from beir_hybrid.anserini.reading.laid_out import Block, laid_out
from beir_hybrid.anserini.reading.manifest import ids_of, read_manifest
from beir_hybrid.errors import BeirHybridError, library_errors
from beir_hybrid.files import file_states

_EMBEDDING = ("embedding", "embeddings", "emb", "vector")
_WHAT = "vectors in Parquet, with a column of ids and one of embeddings"
_ROWS_AT_ONCE = 4096


def read_parquet_vectors(files: Sequence[Path], source: str, folder: Path) -> KeyedVectors:
    """The vectors in these files, one after the other.

    The first call lays them out in the cache, the next ones map what is there.

    Args:
        files: Parquet, with the columns `id` (or `_id`, `docid`) and `embedding` (or `embeddings`, `emb`, `vector`).
        source: What they are called in errors.
        folder: Where an export of ours has its manifest.

    Raises:
        BeirHybridError: a file is missing or damaged, has no such columns, or a vector that is missing, not finite or
            of another length than the first; an id stands twice.
    """
    prefixed = ids_of(read_manifest(folder)).prefixed
    identity = ["parquet", prefixed, *file_states(files, _WHAT)]
    found = laid_out(identity, lambda: _blocks(files, prefixed), source, prefixed=prefixed)
    return replace(found, about={"layout": "hub dataset", "files": len(files), **found.about})


def _blocks(files: Sequence[Path], prefixed: bool) -> Iterator[Block]:
    from pyarrow import parquet

    for path in files:
        row = 1
        with (
            library_errors(f"{path}: cannot be read as Parquet", f"Expected {_WHAT}; fetch or write it again."),
            parquet.ParquetFile(path) as file,
        ):
            names = file.schema_arrow.names
            identifier, embedding = (_column(path, names, known) for known in (ID_FIELDS, _EMBEDDING))
            columns = [identifier, embedding, *(["language"] if prefixed else [])]
            for batch in file.iter_batches(_ROWS_AT_ONCE, columns=columns):
                yield from _runs(batch, identifier, embedding, prefixed, str(path), row)
                row += len(batch)


def _runs(batch: Any, identifier: str, embedding: str, prefixed: bool, path: str, row: int) -> Iterator[Block]:
    """The rows of a batch, as runs of vectors of one length: mostly one."""
    import pyarrow as pa
    import pyarrow.compute as pc

    ids, vectors = batch.column(identifier), batch.column(embedding)
    for column, name in ((ids, identifier), (vectors, embedding)):
        if column.null_count:
            first = pc.index(column.is_null(), True).as_py()
            raise BeirHybridError(f"{path}, row {row + first}: no {name!r}; expected {_WHAT}.")
    kinds = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
    if not any(is_kind(vectors.type) for is_kind in kinds) or not pa.types.is_floating(vectors.type.value_type):
        raise BeirHybridError(f"{path}: the column {embedding!r} is {vectors.type}; expected lists of numbers.")
    lengths = pc.list_value_length(vectors).to_numpy(zero_copy_only=False)
    numbers = vectors.flatten().to_numpy(zero_copy_only=False).astype(np.float32, copy=False)
    names = [str(one) for one in ids.to_pylist()]
    if prefixed:
        names = [f"{code}:{name}" for code, name in zip(batch.column("language").to_pylist(), names, strict=True)]
    ends = np.cumsum(lengths)
    finite = np.isfinite(numbers)
    if not finite.all() or not lengths.all():
        wrong = int(np.searchsorted(ends, np.argmin(finite), side="right")) if not finite.all() else np.argmin(lengths)
        raise BeirHybridError(
            f"{path}, row {row + wrong}: {embedding!r} is empty, or holds what is not finite; expected {_WHAT}."
        )
    for run in np.split(np.arange(len(names)), np.flatnonzero(np.diff(lengths)) + 1):
        first, last = int(run[0]), int(run[-1])
        some = numbers[ends[first] - lengths[first] : ends[last]].reshape(len(run), -1)
        yield Block(names[first : last + 1], some, f"{path}, row {row + first}")


def _column(path: Path, names: Sequence[str], known: Sequence[str]) -> str:
    for name in known:
        if name in names:
            return name
    raise BeirHybridError(
        f"{path}: no column {' or '.join(map(repr, known))}; it has {', '.join(map(repr, names))}. Expected {_WHAT}."
    )
