"""A dense index in a folder that Pyserini opens, with all that searching and evaluating it needs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from beir_hybrid.anserini import pyserini_files as files
from beir_hybrid.anserini.encoder_folder import FOLDER, write_encoder
from beir_hybrid.anserini.exported import Docids, Exported, ExportedQueries
from beir_hybrid.anserini.flat import write_flat
from beir_hybrid.anserini.ids import RULE
from beir_hybrid.collections.collection import MultilingualCollection, Setting, SettingView
from beir_hybrid.collections.texts import Some
from beir_hybrid.encoders.dense import DenseEncoder
from beir_hybrid.encoders.store import EmbeddingStore
from beir_hybrid.errors import BeirHybridError
from beir_hybrid.files import atomic_folder, check_target, sha256_file, write_json
from beir_hybrid.version import __version__

TARGET = ("a dense index", "docid")


class Encoder(Protocol):
    """BEIR's model contract. `score_function` ("cos_sim", the default, or "dot") and `describe()` are optional."""

    def encode_queries(self, queries: list[str], **kwargs: Any) -> Any:
        """Shape (queries, dimension)."""

    def encode_corpus(self, corpus: list[dict[str, str]], **kwargs: Any) -> Any:
        """Shape (passages, dimension), of dicts with `title` and `text`."""


def export_pyserini(
    model: Encoder,
    collection: MultilingualCollection | SettingView,
    folder: Path | str,
    *,
    setting: Setting | str | Sequence[str] | None = None,
    vectors: bool = False,
    query_encoder: bool = True,
    replace: bool = False,
) -> Exported:
    """Encode the passages of a collection and write them as a Pyserini dense index.

    Args:
        query_encoder: Also write the model, for Pyserini to encode queries with, where it can (see `encoder_folder`);
            it is as large as the model.

    Raises:
        BeirHybridError: the folder exists (and `replace` is false) or holds something else than such an index.
    """
    folder = Path(folder)
    check_target(folder, *TARGET, replace)
    views = _views(collection, setting)
    data = collection.collection if isinstance(collection, SettingView) else collection
    rows = views[0].passage_rows if views else data.passages.rows
    prefixed = not data.passages.ids_differ
    docids, texts = Docids(data, rows, prefixed), Some(data.passages.full_texts, rows)
    passages = _normalised(model.encode_corpus([{"title": "", "text": text} for text in texts]), len(rows))
    settings = {}
    for view in views:
        asked = list(view.queries.values())
        settings[view.name] = ExportedQueries(view, _normalised(model.encode_queries(asked), len(asked)))
    describe = getattr(model, "describe", None)
    manifest: dict[str, Any] = {
        "format": 1,
        "collection": data.name,
        "collection_digest": data.digest,
        "licence": data.info.licence,
        "text_mode": data.info.text_mode,
        "settings": list(settings),
        "passages": len(rows),
        "dimension": passages.shape[1],
        "similarity": "cosine",
        "index": "Flat",
        "ids": {"escaped": RULE, "prefix": "language and a colon" if prefixed else None},
        "encoder": describe() if describe else {"class": type(model).__qualname__},
        "versions": {"beir_hybrid": __version__},
    }
    with atomic_folder(folder, replace=replace) as temporary:
        write_flat(temporary / "index", [passages], *passages.shape)
        files.write_docids(temporary / "docid", docids)
        files.write_json_lines(temporary / "corpus", docids, texts)
        if vectors:
            files.write_json_lines(temporary / "vectors", docids, texts, EmbeddingStore.from_array(passages))
        for queries in settings.values():
            files.write_topics(temporary / "topics" / f"{queries.file}.tsv", queries)
            files.write_qrels(temporary / "qrels" / f"{queries.file}.txt", queries, docids)
            files.write_encoded_queries(temporary / "queries" / queries.file, queries)
        if query_encoder and isinstance(model, DenseEncoder):
            manifest["query_encoder"] = write_encoder(model, temporary / FOLDER).describe()
        manifest["files"] = {
            str(path.relative_to(temporary)): {"bytes": path.stat().st_size, "sha256": sha256_file(path)}
            for path in sorted(temporary.rglob("*"))
            if path.is_file()
        }
        write_json(temporary / "manifest.json", manifest)
    store = EmbeddingStore.from_array(passages)  # not what lies in the index: that is to be verified against these
    return Exported(folder, manifest, data, rows, store, prefixed, settings)


def _views(
    collection: MultilingualCollection | SettingView, setting: Setting | str | Sequence[str] | None
) -> list[SettingView]:
    """The settings to export, which search the same passages; none where all are exported and no setting searches them.

    Raises:
        BeirHybridError: an unknown setting, or some that search other passages than the first.
    """
    if isinstance(collection, SettingView):
        if setting is not None:
            raise BeirHybridError(f"{collection.name} is one setting already; leave out `setting`.")
        return [collection]
    if setting is None:
        everywhere = len(collection.languages) == 1
        kinds = ("mono", "multi") if everywhere else ("multi",)
        return [collection.view(one) for one in collection.settings if one.kind in kinds]
    names = [setting] if isinstance(setting, str | Setting) else setting
    views = []
    for name in names:
        kind = [one for one in collection.settings if one.kind == str(name)]
        views += [collection.view(one) for one in (kind or [collection.setting(str(name))])]
    for view in views[1:]:
        if view.setting.searched != views[0].setting.searched:
            raise BeirHybridError(
                f"{views[0].name} and {view.name} search other passages, and an index is of one pool; export them into "
                "folders of their own."
            )
    return views


def _normalised(found: Any, rows: int) -> npt.NDArray[np.float32]:
    vectors = np.ascontiguousarray(found, dtype=np.float32)
    if vectors.ndim != 2 or len(vectors) != rows:
        raise BeirHybridError(f"the encoder gave an array of shape {vectors.shape} for {rows} passages.")
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    if not np.isfinite(norms).all() or not norms.all():
        raise BeirHybridError("the encoder gave vectors that are zero or not finite; they have no cosine.")
    return vectors if np.allclose(norms, 1, atol=1e-6) else np.ascontiguousarray(vectors / norms)
