"""A dense index in a folder that Pyserini opens, with all that searching and evaluating it needs."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from beir_hybrid.anserini import faiss_index, readme
from beir_hybrid.anserini import pyserini_files as files
from beir_hybrid.anserini.encoder_folder import FOLDER, write_encoder
from beir_hybrid.anserini.exported import Exported, ExportedQueries
from beir_hybrid.anserini.faiss_index import FLAT, RECALL_QUERIES, IndexKind
from beir_hybrid.anserini.flat import write_flat
from beir_hybrid.anserini.ids import RULE
from beir_hybrid.anserini.plan import FORMAT, Plan, check, find, shard_folder
from beir_hybrid.anserini.shards import of_shards
from beir_hybrid.anserini.vectors import FEW, Encoder, Source, check_vectors
from beir_hybrid.anserini.workplace import Workplace
from beir_hybrid.collections.collection import MultilingualCollection, Setting, SettingView
from beir_hybrid.collections.texts import IntArray, Some
from beir_hybrid.encoders.dense import DenseEncoder
from beir_hybrid.encoders.store import EmbeddingStore, FloatArray
from beir_hybrid.errors import BeirHybridError, unknown
from beir_hybrid.files import (
    as_one_error,
    atomic_file,
    check_target,
    check_writable,
    expanded,
    read_json,
    sha256_file,
    write_json,
    write_text,
)

TARGET = ("a dense index", "docid")
MANIFEST, README = "manifest.json", "README.md"
SIMILARITIES = {"cosine": "cos_sim", "dot": "dot"}
_PACKAGES = ("beir-hybrid", "faiss-cpu", "numpy", "torch", "transformers", "sentence-transformers", "pandas")


def export_pyserini(
    model: Encoder | str | Path,
    collection: MultilingualCollection | SettingView | str | Path,
    folder: Path | str,
    *,
    setting: Setting | str | Sequence[str] | None = None,
    index: str = FLAT,
    parameters: str = "",
    training_rows: int | None = None,
    seed: int = 0,
    vectors: bool = False,
    query_encoder: bool = True,
    similarity: str | None = None,
    normalise: bool = False,
    embeddings: Path | str | None = None,
    shard: int | None = None,
    shards: int = 1,
    replace: bool = False,
    progress: bool = True,
) -> Exported:
    """Encode the passages of a collection and write them as a dense index that Pyserini opens.

    The folder holds `index` and `docid`, topics, qrels and encoded questions of its settings, the corpus as JSON lines,
    a README with the commands, and `manifest.json`: what was encoded with what, and the SHA-256 of every file.

    Texts are encoded once, a shard at a time, into a store on disk. An export that was killed goes on where it stopped
    when it is asked for again: what is not finished lies in a hidden folder beside `folder`. Several processes may be
    started on the same folder (torchrun, or as many commands) and share the encoding; one then writes the index.

    Args:
        model: A DenseEncoder, what one is made from, or anything with BEIR's two methods.
        collection: A collection, a setting of one (`collection.view("mono/en")`), or the name of either.
        setting: A setting, a kind of setting (`multi`), or several that search the same passages. By default all
            passages, with the questions of every setting that searches them all.
        index: A string for Faiss's index factory. `Flat` is exact, and written without being held in memory; others are
            built in memory, trained on a sample, and their recall beside an exact search is in the manifest.
        parameters: How such an index is built and searched: `nprobe=16`, `efConstruction=200,efSearch=128`.
        training_rows: How many vectors it is trained on; by default 128 for each centroid, and 16,384 at least.
        seed: Which vectors.
        vectors: Also write the vectors as JSON lines, which `pyserini.index.faiss` reads.
        query_encoder: Also write the model, for Pyserini to encode questions with, where it can (see
            `encoder_folder`); it is as large as the model.
        similarity: `cosine` or `dot`; by default what the model's `score_function` says, else cosine, for which every
            vector must be of length 1.
        normalise: Bring vectors to that length, for an encoder that leaves it to the search.
        embeddings: A folder in which embeddings are kept, shared with `evaluate_grid`; only for a DenseEncoder.
        shard, shards: With both, only that one of so many parts of the passages, counted from 0, is encoded, into an
            exact index `FOLDER.shard{shard}`: on machines that share no disk. With `shards` alone the index is put
            together of all of them, and its passages are not encoded again.
        replace: Put the new index in the place of one that is there.
        progress: Show bars on standard error, if that is a terminal.

    Raises:
        BeirHybridError: the folder exists (and `replace` is false) or holds something else than such an index; an
            unknown setting; an empty id or question; vectors of unequal dimensions, zero, not finite, or not of length
            1; an index that Faiss refuses; shards that are missing or of something else; no permission or no space.
    """
    folder = expanded(folder) if shard is None else shard_folder(expanded(folder), shard)
    check_target(folder, *TARGET, replace)
    if embeddings is not None and not isinstance(model, DenseEncoder | str | Path):
        raise BeirHybridError(
            f"embeddings can be kept of a DenseEncoder alone, and this is a {type(model).__name__}: nothing says "
            "whether it would give the same ones again. Leave `embeddings` out."
        )
    data, views = find(collection, setting)
    encoder = DenseEncoder(model, progress=progress) if isinstance(model, str | Path) else model
    rows = views[0].passage_rows if views else data.passages.rows
    few = list(Some(data.passages.full_texts, rows[:FEW])), list(data.queries.texts[:FEW])
    source = Source(encoder, _cosine(encoder, similarity), normalise, *few, progress=progress)
    plan = Plan(
        data,
        views,
        rows,
        IndexKind(index, parameters, training_rows, seed),
        source,
        vectors,
        query_encoder,
        shard,
        shards,
    )
    check(plan)
    if shard is not None:
        plan = plan.of_shard(shard)
    place = Workplace(folder, plan.request)
    check_writable(place.root / "embeddings")
    root = place.embeddings if embeddings is None else expanded(embeddings)
    with _kept_for_later(place):
        # Processes share what a DenseEncoder encodes; of another one only the process whose turn it is does anything.
        encoded = _encode(plan, root, folder) if isinstance(encoder, DenseEncoder) else None
        with place.turn():
            encoded = encoded or _encode(plan, root, folder)
            manifest = _made_meanwhile(plan, folder) if not replace else None
            if manifest is None:
                with as_one_error(folder):
                    manifest = _assemble(plan, encoded, place.folder)
                place.finish(replace)
            place.clear()
    # What was encoded, not what lies in the index: that is verified against these.
    return Exported(folder, manifest, data, plan.rows, encoded.passages, plan.prefixed, encoded.settings)


@dataclass(frozen=True, eq=False)
class _Encoded:
    """The vectors of an export."""

    passages: EmbeddingStore
    settings: Mapping[str, ExportedQueries]
    precision: Mapping[str, Any]


def _encode(plan: Plan, root: Path, folder: Path) -> _Encoded:
    if plan.shards > 1 and plan.shard is None:
        passages = of_shards(plan, folder)
    else:
        passages = plan.source.encode(plan.texts, "passage", root)
    precision = {"passage": passages.manifest.get("precision")}
    settings: dict[str, ExportedQueries] = {}
    if plan.views:
        rows = _asking(plan)
        store = plan.source.encode(Some(plan.collection.queries.texts, rows), "query", root)
        if store.dimension != passages.dimension:
            raise BeirHybridError(
                f"questions have {store.dimension} dimensions and passages {passages.dimension}; an index needs one "
                "dimension for both."
            )
        precision["query"] = store.manifest.get("precision")
        for view in plan.views:
            settings[view.name] = ExportedQueries(view, store[np.searchsorted(rows, view.query_rows)])
    return _Encoded(passages, settings, precision)


def _asking(plan: Plan) -> IntArray:
    """The questions of all settings, as a grid encodes them."""
    return np.unique(np.concatenate([view.query_rows for view in plan.views]))


def _assemble(plan: Plan, encoded: _Encoded, folder: Path) -> dict[str, Any]:
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


def _write_index(plan: Plan, encoded: _Encoded, path: Path) -> dict[str, Any]:
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
        index, sample = faiss_index.build(kind, passages, path, sound, advance)
    asked = [queries.vectors for queries in encoded.settings.values()]
    # Where there are no questions, passages are looked for by their own vectors.
    pool = np.concatenate(asked) if asked else passages
    few = min(RECALL_QUERIES, len(pool))
    queries = pool[np.sort(np.random.default_rng(kind.seed).choice(len(pool), size=few, replace=False))]
    measured = faiss_index.recall(index, queries, passages)
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


def _manifest(plan: Plan, encoded: _Encoded, index: Mapping[str, Any]) -> dict[str, Any]:
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


def _made_meanwhile(plan: Plan, folder: Path) -> dict[str, Any] | None:
    """The manifest of just this export, where another process has finished it; None where none has."""
    if not (folder / MANIFEST).is_file():
        return None
    manifest = read_json(folder / MANIFEST, "the manifest of an export")
    return manifest if isinstance(manifest, dict) and manifest.get("request") == plan.request else None


@contextlib.contextmanager
def _kept_for_later(place: Workplace) -> Iterator[None]:
    """Whatever fails, what was encoded stays for the next try; nothing else does."""
    try:
        yield
    except BeirHybridError as error:
        if not any(place.embeddings.glob("*/*.npy")):
            place.clear()
            raise
        raise BeirHybridError(
            f"{error} What was encoded is kept in {place.root}: the same call goes on from there, else delete it."
        ) from error


@contextlib.contextmanager
def _bar(plan: Plan, what: str) -> Iterator[Callable[[int], object]]:
    from tqdm.auto import tqdm

    off = None if plan.source.progress else True
    with tqdm(total=len(plan.rows), desc=what, unit="passage", disable=off) as bar:
        yield bar.update


def _cosine(model: Any, similarity: str | None) -> bool:
    if similarity is None:
        function = getattr(model, "score_function", "cos_sim")
        if function not in SIMILARITIES.values():
            raise unknown("score function", str(function), SIMILARITIES.values())
        return bool(function == "cos_sim")
    if similarity not in SIMILARITIES:
        raise unknown("similarity", similarity, SIMILARITIES)
    return similarity == "cosine"


def _versions() -> dict[str, str]:
    found = {}
    for name in _PACKAGES:
        with contextlib.suppress(PackageNotFoundError):
            found[name] = version(name)
    return found
