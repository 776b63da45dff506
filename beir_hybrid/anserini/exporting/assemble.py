"""The files of an export: the index, what stands beside it, and a manifest of it all."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from beir_hybrid.anserini.encoder_folder import FOLDER, write_encoder
from beir_hybrid.anserini.exporting import pyserini_files as files
from beir_hybrid.anserini.exporting import readme
from beir_hybrid.anserini.exporting.exported import ExportedQueries
from beir_hybrid.anserini.exporting.ids import RULE
from beir_hybrid.anserini.exporting.plan import FORMAT, Plan
from beir_hybrid.anserini.exporting.vectors import check_vectors
from beir_hybrid.anserini.indexes import factory
from beir_hybrid.anserini.indexes.factory import RECALL_QUERIES
from beir_hybrid.anserini.indexes.flat import write_flat
from beir_hybrid.encoders.dense import DenseEncoder
from beir_hybrid.encoders.store import EmbeddingStore, FloatArray
from beir_hybrid.files import atomic_file, sha256_file, write_json, write_text

MANIFEST, README = "manifest.json", "README.md"
_PACKAGES = ("beir-hybrid", "faiss-cpu", "numpy", "torch", "transformers", "sentence-transformers", "pandas")


@dataclass(frozen=True, eq=False)
class Encoded:
    """The vectors of an export."""

    passages: EmbeddingStore
    settings: Mapping[str, ExportedQueries]
    precision: Mapping[str, Any]


def assemble(plan: Plan, encoded: Encoded, folder: Path) -> dict[str, Any]:
    """Write all files but those that are there already, each whole; returns the manifest."""
    folder.mkdir(parents=True, exist_ok=True)
    for half in folder.rglob(".*.part"):  # of a process that was killed
        half.unlink()
    about = _write_index(plan, encoded, folder / "index")
    docids, texts = plan.docids, plan.texts
    files.write_docids(folder / "docid", docids)
    if plan.shard is None:
        with _bar(plan, "Writing the corpus") as advance:
            files.write_json_lines(folder / readme.CORPUS, docids, texts, advance=advance)
    if plan.vectors:
        with _bar(plan, "Writing the vectors") as advance:
            files.write_json_lines(folder / readme.VECTORS, docids, texts, encoded.passages, advance)
    for queries in encoded.settings.values():
        files.write_topics(folder / readme.TOPICS / f"{queries.file}.tsv", queries)
        files.write_qrels(folder / readme.QRELS / f"{queries.file}.txt", queries, docids)
        files.write_encoded_queries(folder / readme.QUERIES / queries.file, queries)
    manifest = _manifest(plan, encoded, about)
    if plan.query_encoder and isinstance(plan.source.model, DenseEncoder):
        shutil.rmtree(folder / FOLDER, ignore_errors=True)  # of an export that was killed
        manifest["query_encoder"] = write_encoder(plan.source.model, folder / FOLDER).describe()
    if plan.shard is None:
        write_text(folder / README, readme.readme(manifest, docids[0]))
    written = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != MANIFEST]
    manifest["files"] = {
        path.relative_to(folder).as_posix(): {"bytes": path.stat().st_size, "sha256": sha256_file(path)}
        for path in written
    }
    write_json(folder / MANIFEST, manifest)
    return manifest


def _write_index(plan: Plan, encoded: Encoded, path: Path) -> dict[str, Any]:
    """The index, unless it is there already; returns what the manifest says of it."""
    passages, kind = encoded.passages, plan.kind

    def sound(block: FloatArray, start: int) -> None:
        check_vectors(block, plan.source.cosine, lambda row: f"the passage {plan.docids[start + row]!r}")

    with _bar(plan, "Indexing passages") as advance:
        if kind.exact:
            if not path.exists():
                with atomic_file(path) as temporary:
                    write_flat(temporary, _checked(passages, sound, advance), *passages.shape)
            return {}
        index, sample = factory.build(kind, passages, path, sound, advance)
    asked = [queries.vectors for queries in encoded.settings.values()]
    # Where there are no questions, passages are looked for by their own vectors.
    pool = np.concatenate(asked) if asked else passages
    few = min(RECALL_QUERIES, len(pool))
    queries = pool[np.sort(np.random.default_rng(kind.seed).choice(len(pool), size=few, replace=False))]
    measured = factory.recall(index, queries, passages)
    return {
        "trained_on": sample,
        "recall": {"values": measured, "queries": few, "of": "questions" if asked else "passages themselves"},
    }


def _checked(
    store: EmbeddingStore, sound: Callable[[FloatArray, int], None], advance: Callable[[int], object]
) -> Iterator[FloatArray]:
    for start, block in store.blocks():
        sound(block, start)
        yield block
        advance(len(block))


def _manifest(plan: Plan, encoded: Encoded, index: Mapping[str, Any]) -> dict[str, Any]:
    data, model = plan.collection, plan.source.model
    describe = getattr(model, "describe", None)
    return {
        "format": FORMAT,
        "collection": data.name,
        "collection_digest": data.digest,
        "licence": data.info.licence,
        "text_mode": data.info.text_mode,
        "settings": list(encoded.settings),
        "same_ids": data.same_ids,
        "passages": len(plan.rows),
        "dimension": encoded.passages.dimension,
        "similarity": "cosine" if plan.source.cosine else "dot",
        "normalised": plan.source.normalise or isinstance(model, DenseEncoder),
        **plan.kind.describe(),
        **index,
        "shard": None if plan.shard is None else {"number": plan.shard, "of": plan.shards},
        "vectors": plan.vectors,
        "ids": {
            "escaped": RULE,
            "prefix": "language and a colon" if plan.prefixed else None,
            "escaped_passages": sum("%" in docid for docid in plan.docids),
            "escaped_questions": sum("%" in one for queries in encoded.settings.values() for one in queries.topic_ids),
        },
        "encoder": describe() if describe else {"class": type(model).__qualname__},
        "precision": dict(encoded.precision),
        "versions": _versions(),
        "request": plan.request,
    }


@contextlib.contextmanager
def _bar(plan: Plan, what: str) -> Iterator[Callable[[int], object]]:
    from tqdm.auto import tqdm

    off = None if plan.source.progress else True
    with tqdm(total=len(plan.rows), desc=what, unit="passage", disable=off) as bar:
        yield bar.update


def _versions() -> dict[str, str]:
    found = {}
    for name in _PACKAGES:
        with contextlib.suppress(PackageNotFoundError):
            found[name] = version(name)
    return found
