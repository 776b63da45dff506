"""A dense index in a folder that Pyserini opens, with all that searching and evaluating it needs."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from beir_hybrid.anserini.exporting.assemble import MANIFEST, Encoded, assemble
from beir_hybrid.anserini.exporting.exported import Exported, ExportedQueries, topic_text
from beir_hybrid.anserini.exporting.plan import Plan, check, find, shard_folder
from beir_hybrid.anserini.exporting.shards import of_shards
from beir_hybrid.anserini.exporting.vectors import FEW, Encoder, Source
from beir_hybrid.anserini.exporting.workplace import Workplace
from beir_hybrid.anserini.indexes.factory import FLAT, IndexKind
from beir_hybrid.collections.collection import MultilingualCollection, Setting, SettingView
from beir_hybrid.collections.lazy import Some
from beir_hybrid.collections.texts import IntArray
from beir_hybrid.encoders.dense import DenseEncoder
from beir_hybrid.encoders.store import EmbeddingStore, FloatArray
from beir_hybrid.errors import BeirHybridError, unknown
from beir_hybrid.files import (
    as_one_error,
    check_target,
    check_writable,
    expanded,
    read_json,
)

TARGET = ("a dense index", "docid")
SIMILARITIES = {"cosine": "cos_sim", "dot": "dot"}


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
                    manifest = assemble(plan, encoded, place.folder)
                place.finish(replace)
            place.clear()
    # What was encoded, not what lies in the index: that is verified against these.
    return Exported(folder, manifest, data, plan.rows, encoded.passages, plan.prefixed, encoded.settings)


def _encode(plan: Plan, root: Path, folder: Path) -> Encoded:
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
        vectors = _as_read(plan, rows, store, root)
        for view in plan.views:
            settings[view.name] = ExportedQueries(view, vectors[np.searchsorted(rows, view.query_rows)])
    return Encoded(passages, settings, precision)


def _as_read(plan: Plan, rows: IntArray, store: EmbeddingStore, root: Path) -> FloatArray:
    """The vectors of questions as Anserini's reader hands them on, trimmed: mostly those of the store.

    Pyserini finds an encoded question by that text: two that are equal by then must have one vector.
    """
    texts = list(Some(plan.collection.queries.texts, rows))
    read, vectors = [topic_text(text) for text in texts], store[:]
    others = [number for number, text in enumerate(texts) if read[number] != text]
    place = {text: number for number, text in enumerate(texts)} if others else {}
    known = [number for number in others if read[number] in place]
    new = [number for number in others if read[number] not in place]
    if known:
        vectors[known] = vectors[[place[read[number]] for number in known]]
    if new:
        vectors[new] = plan.source.encode([read[number] for number in new], "query", root)[:]
    return vectors


def _asking(plan: Plan) -> IntArray:
    """The questions of all settings, as a grid encodes them."""
    return np.unique(np.concatenate([view.query_rows for view in plan.views]))


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
            with contextlib.suppress(BeirHybridError), place.turn():
                place.clear()
            raise
        raise BeirHybridError(
            f"{error} What was encoded is kept in {place.root}: the same call goes on from there, else delete it."
        ) from error


def _cosine(model: Any, similarity: str | None) -> bool:
    if similarity is None:
        function = getattr(model, "score_function", "cos_sim")
        if function not in SIMILARITIES.values():
            raise unknown("score function", str(function), SIMILARITIES.values())
        return bool(function == "cos_sim")
    if similarity not in SIMILARITIES:
        raise unknown("similarity", similarity, SIMILARITIES)
    return similarity == "cosine"
