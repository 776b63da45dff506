"""A plain Faiss file: row numbers are its ids, and beside it stands which passage each row is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import orjson

from beir_hybrid.anserini.exporting.exported import Exported
from beir_hybrid.anserini.homes.common import check_home, home_manifest, prompts, questions
from beir_hybrid.anserini.reading.faiss_file import IDS, PASSAGES, QUERIES, QUERY_IDS
from beir_hybrid.anserini.reading.manifest import MANIFEST
from beir_hybrid.anserini.reading.pyserini_index import INDEX
from beir_hybrid.collections.lazy import take
from beir_hybrid.collections.texts import IntArray, Texts
from beir_hybrid.files import atomic_folder, expanded, link_or_copy, write_json

_LAYOUT = "Faiss file with ids"
_BLOCK = 4096
_README = """# {title}

The vectors of {passages} passages of {collection} as a Faiss index, {dimension} dimensions, ranked by inner product.

{prompts} Licence of the texts, which the ids name: {licence}.

| file | what |
| --- | --- |
| `passages.faiss` | the index; its ids are row numbers from 0 |
| `ids.jsonl` | which passage each row is: line 1 is row 0 |
| `queries.npy`, `query_ids.jsonl` | vectors of {queries} questions, and which question each row is |
| `manifest.json` | what was encoded with what, and the SHA-256 of every file |

```python
import json

import faiss
import numpy as np

index = faiss.read_index("passages.faiss")
ids = [json.loads(line)["id"] for line in open("ids.jsonl", encoding="utf-8")]
scores, rows = index.search(np.load("queries.npy")[:1], 10)
print([(ids[row], float(score)) for row, score in zip(rows[0], scores[0])])
```
"""


def write_faiss(exported: Exported, folder: Path | str, *, replace: bool = False) -> Path:
    """Write an export as a plain Faiss file with the ids of its rows, whole or not at all.

    `passages.faiss` is the index of the export, by hard link where the file system has them; `ids.jsonl` has a line
    for each row, `{"id": ..., "language": ...}`, as in the collection, nothing escaped. The questions of the exported
    settings are `queries.npy` and `query_ids.jsonl`. `read_vectors` reads them again.

    Args:
        exported: What `export_pyserini` gives.
        replace: Put the new folder in the place of one that was written before.

    Returns:
        The folder.

    Raises:
        BeirHybridError: the folder exists (and `replace` is false) or holds something else; no permission or no space.
    """
    folder = expanded(folder)
    check_faiss(folder, replace)
    collection = exported.collection
    rows, vectors = questions(exported)
    with atomic_folder(folder, replace=replace, new=True) as temporary:
        link_or_copy(exported.folder / INDEX, temporary / PASSAGES)
        _write_ids(temporary / IDS, collection.passages, exported.passage_rows, collection.languages)
        np.save(temporary / QUERIES, vectors)
        _write_ids(temporary / QUERY_IDS, collection.queries, rows, collection.languages)
        manifest = home_manifest(exported, temporary, _LAYOUT)
        readme = _README.format(**manifest | {"title": collection.name, "prompts": prompts(exported)})
        (temporary / "README.md").write_text(readme, encoding="utf-8", newline="")
        write_json(temporary / MANIFEST, manifest)
    return folder


def check_faiss(folder: Path, replace: bool) -> None:
    """Refuse a folder that `write_faiss` could not write to.

    Raises:
        BeirHybridError: it exists (and `replace` is false) or holds something else.
    """
    check_home(expanded(folder), "a Faiss file with the ids of its rows", _LAYOUT, replace)


def _write_ids(path: Path, texts: Texts, rows: IntArray, languages: tuple[str, ...]) -> None:
    with open(path, "wb") as stream:
        stream.writelines(_lines(texts, rows, languages))


def _lines(texts: Texts, rows: IntArray, languages: tuple[str, ...]) -> Iterator[bytes]:
    for start in range(0, len(rows), _BLOCK):
        some = rows[start : start + _BLOCK]
        for identifier, number in zip(take(texts.ids, some), texts.language[some].tolist(), strict=True):
            record = {"id": identifier, "language": languages[number]}
            yield orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE)
