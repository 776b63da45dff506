"""The vectors in a plain Faiss file of ours, beside which `ids.jsonl` names the rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from beir_hybrid.anserini.reading.faiss_index import FaissIndex, read_faiss
from beir_hybrid.anserini.reading.keyed import KeyedVectors, check_differ
from beir_hybrid.anserini.reading.manifest import ids_of, read_manifest
from beir_hybrid.anserini.reading.pyserini_index import check_one_each
from beir_hybrid.collections.storage.jsonl import id_field, read_jsonl, text_field
from beir_hybrid.encoders.shards import load_array
from beir_hybrid.encoders.store import EmbeddingStore
from beir_hybrid.files import sha256_file

PASSAGES, IDS = "passages.faiss", "ids.jsonl"
QUERIES, QUERY_IDS = "queries.npy", "query_ids.jsonl"
_WHAT = 'the ids of vectors in JSON lines, {"id": ..., "language": ...}'


def read_faiss_folder(folder: Path, side: str = "passages") -> KeyedVectors:
    """The vectors of one side in a folder that `write_faiss` made.

    Raises:
        BeirHybridError: a file is missing or damaged, or there is not one id for each vector.
    """
    passages = side == "passages"
    path, named = folder / (PASSAGES if passages else QUERIES), folder / (IDS if passages else QUERY_IDS)
    if passages:
        index = read_faiss(path)
    else:
        index = FaissIndex(EmbeddingStore.from_array(load_array(path)), "vectors in NumPy's format", "ip", "")
    prefixed = ids_of(read_manifest(folder)).prefixed
    ids = _ids(named, prefixed)
    check_one_each(ids, named, index, path)
    check_differ(ids, f"{named}, line")
    sha256 = {one.name: sha256_file(one) for one in (path, named)}
    about: dict[str, Any] = {"layout": "Faiss file with ids", "index": index.kind, "sha256": sha256}
    return KeyedVectors(index.vectors, ids, str(folder), index.metric, prefixed, about, index.note)


def _ids(path: Path, prefixed: bool) -> list[str]:
    ids: list[str] = []
    for number, record in read_jsonl(path, _WHAT):
        where = f"{path}, line {number}"
        identifier = id_field(record, ("id",), where)
        ids.append(f"{text_field(record, 'language', where)}:{identifier}" if prefixed else identifier)
    return ids
