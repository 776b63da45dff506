"""Vectors in JSON lines, as `python -m pyserini.encode` writes them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from beir_hybrid.anserini.exporting.ids import unescape
from beir_hybrid.anserini.reading.keyed import KeyedVectors
from beir_hybrid.anserini.reading.laid_out import Block, laid_out
from beir_hybrid.anserini.reading.manifest import AS_THEY_ARE, Ids
from beir_hybrid.collections.storage.jsonl import id_field, read_jsonl
from beir_hybrid.errors import BeirHybridError
from beir_hybrid.files import file_states

ENDINGS = (".jsonl", ".json", ".jsonl.gz", ".json.gz")
ID_FIELDS = ("id", "_id", "docid")
"""As Pyserini's own reader of JSON lines takes them."""
_WHAT = 'vectors in JSON lines, {"id": ..., "vector": [finite numbers]}'
_ROWS_AT_ONCE = 512


def read_json_lines(files: Sequence[Path], source: str, ids: Ids = AS_THEY_ARE) -> KeyedVectors:
    """The vectors in these files, one after the other.

    The first call lays them out in the cache, the next ones map what is there.

    Args:
        files: JSON lines, plain or gzip, each line with an `id` (or `_id`, `docid`) and a `vector`; other fields are
            passed over.
        source: What they are called in errors.
        ids: How the ids are written.

    Raises:
        BeirHybridError: a line is not valid JSON, has no id or no vector of finite numbers, or one of another length
            than the first; says the file and the line. An id stands twice, or there are no vectors.
    """
    identity = ["json lines", ids.escaped, *file_states(files, _WHAT)]
    found = laid_out(identity, lambda: _blocks(files, ids.escaped), source, prefixed=ids.prefixed)
    return replace(found, about={"layout": "JSON lines", "files": len(files), **found.about})


def _blocks(files: Sequence[Path], escaped: bool) -> Iterator[Block]:
    for path in files:
        ids: list[str] = []
        vectors: list[npt.NDArray[np.float32]] = []
        where = ""
        for number, record in read_jsonl(path, _WHAT):
            place = f"{path}, line {number}"
            vector = _vector(record, place)
            if len(ids) == _ROWS_AT_ONCE or (ids and len(vector) != len(vectors[0])):
                yield Block(ids, np.stack(vectors), where)
                ids, vectors = [], []
            where = where if ids else place
            identifier = id_field(record, ID_FIELDS, place)
            ids.append(unescape(identifier) if escaped else identifier)
            vectors.append(vector)
        if ids:
            yield Block(ids, np.stack(vectors), where)


def _vector(record: dict[str, Any], where: str) -> npt.NDArray[np.float32]:
    """The vector of a line, shape (dimension,)."""
    found = record.get("vector")
    if not isinstance(found, list) or not found:
        said = "no 'vector'" if found is None else "'vector' is not an array of numbers"
        raise BeirHybridError(f"{where}: {said}; expected {_WHAT}. The object has {', '.join(map(repr, record))}.")
    try:
        numbers = np.asarray(found)
    except ValueError:  # arrays of different lengths
        numbers = np.empty(0, dtype=object)
    if numbers.ndim != 1 or numbers.dtype.kind not in "fiu":
        raise BeirHybridError(f"{where}: 'vector' is not an array of numbers alone; expected {_WHAT}.")
    with np.errstate(over="ignore"):
        vector = numbers.astype(np.float32)
    if not np.isfinite(vector).all():
        raise BeirHybridError(f"{where}: 'vector' has a number too large for float32; every number must be finite.")
    return vector
