"""The vectors in a Pyserini dense index: a folder with `index`, a Faiss index, and `docid`, an id a line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from beir_hybrid.anserini.exporting.ids import unescape
from beir_hybrid.anserini.reading.faiss_index import FaissIndex, read_faiss
from beir_hybrid.anserini.reading.keyed import KeyedVectors, check_differ
from beir_hybrid.anserini.reading.manifest import ids_of, read_manifest
from beir_hybrid.errors import BeirHybridError
from beir_hybrid.files import sha256_file

INDEX, DOCID = "index", "docid"


def read_pyserini_index(folder: Path) -> KeyedVectors:
    """The vectors of the passages in a dense index, made by Pyserini or by `export_pyserini`.

    A Flat inner-product index is mapped, so that one larger than memory opens at once. Any other kind is read by Faiss;
    `note` then says whether its vectors are what was encoded. Ids that `export_pyserini` wrote in another way are again
    what they were.

    Raises:
        BeirHybridError: a file is missing or damaged, or there is not one id for each vector.
    """
    index = read_faiss(folder / INDEX)
    manifest = read_manifest(folder)
    ids = read_docids(folder / DOCID)
    check_one_each(ids, folder / DOCID, index, folder / INDEX)
    check_differ(ids, f"{folder / DOCID}, line")
    written = ids_of(manifest)
    if written.escaped:
        ids = [unescape(identifier) for identifier in ids]
    about: dict[str, Any] = {
        "layout": "Pyserini index",
        "index": index.kind,
        "sha256": {name: sha256_file(folder / name) for name in (INDEX, DOCID)},
    }
    if manifest is not None:
        about["manifest"] = {name: value for name, value in manifest.items() if name != "files"}
    return KeyedVectors(index.vectors, ids, str(folder), index.metric, written.prefixed, about, index.note)


def read_docids(path: Path) -> list[str]:
    """The ids in a `docid` file, as Pyserini reads them: blanks at the ends of lines are none of theirs.

    Raises:
        BeirHybridError: it is missing, not UTF-8, or a line is empty; says which.
    """
    try:
        with open(path, encoding="utf-8") as stream:
            ids = [line.rstrip() for line in stream]
    except OSError as error:
        raise BeirHybridError(f"{path}: cannot be read ({error.strerror}); expected the ids of the passages.") from None
    except UnicodeDecodeError as error:
        raise BeirHybridError(f"{path}: not UTF-8 ({error.reason}); expected the ids of the passages.") from None
    if "" in ids:
        raise BeirHybridError(f"{path}, line {ids.index('') + 1}: empty; expected the id of a passage.")
    return ids


def check_one_each(ids: list[str], path: Path, index: FaissIndex, index_path: Path) -> None:
    """Refuse ids that are not one for each vector.

    Raises:
        BeirHybridError: there are more or fewer.
    """
    if len(ids) != len(index.vectors):
        raise BeirHybridError(
            f"{path}: {len(ids)} lines for {len(index.vectors)} vectors in {index_path}; expected an id for each. One "
            "of the two may be cut short, or of another index: write both again."
        )
