"""The files beside the index, each in the format of the reader in Pyserini that it is for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from beir_hybrid.anserini.exporting.exported import Docids, ExportedQueries, check_utf8
from beir_hybrid.encoders.store import EmbeddingStore
from beir_hybrid.files import atomic_file

ROWS_A_FILE = 500_000
_BLOCK = 4096


def write_docids(path: Path, docids: Sequence[str]) -> None:
    """`docid`: an id a line, in the order of the index's rows."""
    with atomic_file(path) as temporary, open(temporary, "w", encoding="ascii", newline="\n") as stream:
        for start in range(0, len(docids), _BLOCK):
            stream.writelines(f"{docid}\n" for docid in docids[start : start + _BLOCK])


def write_topics(path: Path, queries: ExportedQueries) -> None:
    """Id, tab, text: for `--topics` of Pyserini's searches."""
    with atomic_file(path) as temporary, open(temporary, "w", encoding="utf-8", newline="\n") as stream:
        for identifier, text in zip(queries.topic_ids, queries.topic_texts, strict=True):
            stream.write(f"{identifier}\t{text}\n")


def write_qrels(path: Path, queries: ExportedQueries, docids: Docids) -> None:
    """TREC judgements, for `pyserini.eval.trec_eval`: question, 0, passage, grade."""
    judged, topics = queries.view.judgements, queries.topic_ids
    rows, place = np.unique(judged.passages, return_inverse=True)
    passages = docids.of(rows)
    lines = zip(judged.queries.tolist(), place.tolist(), judged.grades.tolist(), strict=True)
    with atomic_file(path) as temporary, open(temporary, "w", encoding="ascii", newline="\n") as stream:
        stream.writelines(f"{topics[query]} 0 {passages[passage]} {grade}\n" for query, passage, grade in lines)


def write_encoded_queries(folder: Path, queries: ExportedQueries) -> None:
    """`embedding.pkl`, which Pyserini's `QueryEncoder` unpickles: a pandas frame of id, text and embedding."""
    import pandas as pd

    # Plain objects, whatever kind of strings this pandas prefers: they are read with another one.
    frame = pd.DataFrame(
        {
            "id": pd.Series(queries.topic_ids, dtype=object),
            "text": pd.Series(queries.topic_texts, dtype=object),
            "embedding": pd.Series(list(queries.vectors), dtype=object),
        }
    )
    with atomic_file(folder / "embedding.pkl") as temporary:
        frame.to_pickle(temporary, compression=None)


def write_json_lines(
    folder: Path,
    docids: Sequence[str],
    texts: Sequence[str],
    vectors: EmbeddingStore | None = None,
    advance: Callable[[int], object] = lambda done: None,
) -> None:
    """A passage a line, `{"id", "contents"}` or, for `pyserini.index.faiss`, `{"id", "contents", "vector"}`.

    In files of so many rows. One that is there already stays: a run that was killed goes on after the last whole one.
    """
    for number, first in enumerate(range(0, len(docids), ROWS_A_FILE)):
        path, end = folder / f"part-{number:05}.jsonl", min(first + ROWS_A_FILE, len(docids))
        if not path.exists():
            with atomic_file(path) as temporary, open(temporary, "wb") as stream:
                for start in range(first, end, _BLOCK):
                    stop = min(start + _BLOCK, end)
                    stream.write(_lines(docids, texts, vectors, start, stop))
                    advance(stop - start)


def _lines(docids: Sequence[str], texts: Sequence[str], vectors: EmbeddingStore | None, start: int, stop: int) -> bytes:
    rows: list[dict[str, Any]] = [
        {"id": docid, "contents": check_utf8(text, docid)}
        for docid, text in zip(docids[start:stop], texts[start:stop], strict=True)
    ]
    if vectors is not None:
        for row, vector in zip(rows, vectors[start:stop], strict=True):
            row["vector"] = vector
    option = orjson.OPT_APPEND_NEWLINE | orjson.OPT_SERIALIZE_NUMPY
    return b"".join(orjson.dumps(row, option=option) for row in rows)
