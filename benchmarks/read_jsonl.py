"""How fast JSON lines are read and stored, beside the standard library and ir_datasets; one thread, in turn.

    python benchmarks/read_jsonl.py [FOLDER]

FOLDER holds gzip-compressed JSON lines named `docs-*.jsonl.gz`, at any depth; default: ../shared/data/miracl-mini.
"""

from __future__ import annotations

import gzip
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from beir_hybrid.collections.storage.jsonl import id_field, read_jsonl, text_field
from beir_hybrid.collections.storage.stored import Row, open_or_build

COPIES = 3
ROUNDS = 3


def read(path: Path) -> Iterator[Any]:
    for _, record in read_jsonl(path, "passages"):
        yield record


def store(path: Path) -> Iterable[Any]:
    def rows() -> Iterator[Row]:
        name = str(path)  # a path is slow to print, once for each row
        for number, record in read_jsonl(path, "passages"):
            where = f"{name}, line {number}"
            yield Row(
                id_field(record, ("docid",), where),
                text_field(record, "title", where, default=""),
                text_field(record, "text", where),
                "xx",
            )

    with tempfile.TemporaryDirectory() as folder:
        return range(len(open_or_build(Path(folder) / "store", rows, "passages")))


def standard_library(path: Path) -> Iterator[Any]:
    with gzip.open(path, "rt", encoding="utf-8") as stream:
        for line in stream:
            yield json.loads(line)


def ir_datasets_loop(path: Path) -> Iterable[Any]:
    from ir_datasets.formats import JsonlDocs
    from ir_datasets.util import GzipExtract, LocalDownload

    class Document(NamedTuple):
        doc_id: str
        title: str
        text: str

    mapping = {"doc_id": "docid", "title": "title", "text": "text"}
    documents: Iterable[Any] = JsonlDocs(GzipExtract(LocalDownload(path)), Document, mapping).docs_iter()
    return documents


def make_file(sources: list[Path], target: Path) -> int:
    """Write the rows of all files, several times over with ids of their own; the number of rows."""
    rows = 0
    with gzip.open(target, "wb", compresslevel=6) as stream:
        for copy in range(COPIES):
            for number, source in enumerate(sources):
                with gzip.open(source, "rb") as lines:
                    for line in lines:
                        rows += 1
                        stream.write(line.replace(b'"docid": "', b'"docid": "%d.%d:' % (copy, number), 1))
    return rows


def best_of(run: Callable[[Path], Iterable[Any]], path: Path, rows: int) -> float:
    """The seconds of the fastest round."""
    seconds = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        found = sum(1 for _ in run(path))
        seconds.append(time.perf_counter() - start)
        if found != rows:
            raise SystemExit(f"{run.__name__}: {found} rows of {rows}")
    return min(seconds)


def main() -> None:
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "../shared/data/miracl-mini")
    sources = sorted(folder.glob("**/docs-*.jsonl.gz"))
    if not sources:
        print(f"{folder}: no docs-*.jsonl.gz here; nothing to measure.")
        return
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary) / "docs.jsonl.gz"
        rows = make_file(sources, path)
        size = path.stat().st_size / 1e6
        print(f"{len(sources)} files of {folder}, {COPIES} times: {rows} rows, {size:.1f} MB of gzip; best of {ROUNDS}")
        peer = 0.0
        for name, run in (
            ("gzip and json of the standard library", standard_library),
            ("ir_datasets, JsonlDocs", ir_datasets_loop),
            ("read_jsonl", read),
            ("read_jsonl into a store", store),
        ):
            speed = size / best_of(run, path, rows)
            peer = peer or speed
            print(f"{name:40} {speed:6.1f} MB/s  {speed / peer:5.2f} x")


if __name__ == "__main__":
    main()
