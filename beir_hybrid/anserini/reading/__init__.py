"""Vectors from wherever they were written: Pyserini's index or JSON lines, a Faiss file, a hub dataset, a store."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from beir_hybrid.anserini.reading.faiss_file import PASSAGES, QUERIES, read_faiss_folder
from beir_hybrid.anserini.reading.hub_folder import read_parquet_vectors
from beir_hybrid.anserini.reading.json_lines import ENDINGS, read_json_lines
from beir_hybrid.anserini.reading.keyed import KeyedVectors
from beir_hybrid.anserini.reading.manifest import ids_of, read_manifest
from beir_hybrid.anserini.reading.of_texts import StoredByText
from beir_hybrid.anserini.reading.pyserini_index import DOCID, INDEX, read_pyserini_index
from beir_hybrid.encoders import shards
from beir_hybrid.encoders.store import EmbeddingStore
from beir_hybrid.errors import BeirHybridError, unknown
from beir_hybrid.files import expanded

__all__ = ["KeyedVectors", "StoredByText", "read_pyserini_index", "read_vectors"]

Side = Literal["passages", "queries"]
_LAYOUTS = (
    "a Pyserini index (index and docid), its vectors in JSON lines (.jsonl, .jsonl.gz), a Faiss file of ours "
    f"({PASSAGES} and ids.jsonl), a hub dataset (.parquet), or a store of embeddings ({shards.MANIFEST})"
)


def read_vectors(path: str | Path, side: Side = "passages") -> KeyedVectors | StoredByText:
    """The vectors of passages, or of questions, in a file or a folder; which layout it is in is seen from its files.

    `evaluate_grid(encoder, collection, passage_vectors=read_vectors("my-index"))` evaluates a Pyserini index.
    Nothing is unpickled: Pyserini's `embedding.pkl` is not read.

    Args:
        path: A Pyserini dense index; a file, or a folder with files, of JSON lines as `pyserini.encode` writes them; a
            folder that `write_faiss` or `write_hub` made, or a hub dataset of others; a store of embeddings.
        side: Which of the two, in a folder that may have both.

    Raises:
        BeirHybridError: there is nothing of the kind, or it is damaged; says the file and the line.
    """
    if side not in ("passages", "queries"):
        raise unknown("side", str(side), ("passages", "queries"))
    path = expanded(path)
    if not path.exists():
        raise BeirHybridError(f"{path}: no such file or folder; expected {_LAYOUTS}.")
    names = {entry.name for entry in path.iterdir()} if path.is_dir() else set()
    if {INDEX, DOCID} <= names:
        return read_pyserini_index(path)
    if shards.MANIFEST in names:
        return StoredByText(EmbeddingStore.open(path), str(path))
    if PASSAGES in names or QUERIES in names:
        return read_faiss_folder(path, side)
    if files := _files(path, (".parquet",)):
        ours = [file for file in files if file.name.startswith(f"{side}-")]
        return read_parquet_vectors(ours or files, str(path), path)
    if files := _files(path, ENDINGS if path.is_file() else (".jsonl", ".jsonl.gz")):
        beside = read_manifest(path if path.is_dir() else path.parent) or read_manifest(path.parent)
        return read_json_lines(files, str(path), ids_of(beside))
    pickled = " Pyserini's embedding.pkl is not read: a pickle may run anything." if _files(path, (".pkl",)) else ""
    raise BeirHybridError(f"{path}: no vectors that can be read; expected {_LAYOUTS}.{pickled}")


def _files(path: Path, endings: tuple[str, ...]) -> list[Path]:
    """The files with such endings, in the order of their paths; hidden ones are none of them."""
    if path.is_file():
        return [path] if path.name.endswith(endings) else []
    found = (one for one in path.rglob("*") if one.name.endswith(endings) and one.is_file())
    return sorted(one for one in found if not one.name.startswith("."))
