"""The dense index that Pyserini reads: a folder with `index` (Faiss) and `docid` (an id a line, in row order)."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from beir_hybrid.collections.collection import MultilingualCollection, Setting
from beir_hybrid.collections.texts import take
from beir_hybrid.errors import BeirHybridError
from beir_hybrid.files import atomic_folder, check_target, write_json

TARGET = ("a dense index", "docid")


class PassageEncoder(Protocol):
    """The half of BEIR's model contract that an index needs."""

    def encode_corpus(self, corpus: list[dict[str, str]], **kwargs: Any) -> Any:
        """Shape (passages, dimension), of dicts with `title` and `text`."""


def export_pyserini(
    encoder: PassageEncoder,
    collection: MultilingualCollection,
    folder: Path | str,
    *,
    setting: Setting | str | None = None,
    replace: bool = False,
) -> Path:
    """Encode the passages of a collection and write them as a Pyserini dense index.

    The index is an exact inner-product one (`IndexFlatIP`) over L2-normalised vectors, so its scores are cosines.
    Beside `index` and `docid` stands `manifest.json`: what was encoded, with what.

    Args:
        setting: Only the passages that this setting searches; by default all.
        replace: Put the new index in the place of one that is there.

    Returns:
        The folder.

    Raises:
        BeirHybridError: the folder exists (and `replace` is false) or holds something else than such an index; an id
            that Pyserini's reader would break; vectors of the wrong shape; no permission or no space.
    """
    folder = Path(folder)
    check_target(folder, *TARGET, replace)
    view = None if setting is None else collection.view(setting)
    rows = np.arange(len(collection.passages)) if view is None else view.passage_rows
    ids = take(collection.passages.ids, rows)
    _check_ids(ids)
    texts = collection.passages.take(rows)
    passages = [{"title": texts.title(row), "text": texts.texts[row]} for row in range(len(rows))]
    vectors = _normalised(encoder.encode_corpus(passages), len(rows))
    describe = getattr(encoder, "describe", None)
    manifest = {
        "collection": collection.name,
        "setting": str(view.setting) if view else None,
        "collection_digest": collection.digest,
        "licence": collection.info.licence,
        "text_mode": collection.info.text_mode,
        "passages": len(rows),
        "dimension": vectors.shape[1],
        "index": "Flat, inner product of L2-normalised vectors",
        "encoder": describe() if describe else type(encoder).__qualname__,
    }
    write_index(vectors, ids, folder, manifest, replace=replace)
    return folder


def write_index(
    vectors: npt.NDArray[np.float32], ids: list[str], folder: Path, manifest: dict[str, Any], *, replace: bool = False
) -> None:
    """Write `index`, `docid` and `manifest.json` into a new `folder`, whole or not at all."""
    import faiss

    with atomic_folder(folder, replace=replace) as temporary:
        index = faiss.IndexFlatIP(vectors.shape[1])
        index.add(vectors)
        try:
            faiss.write_index(index, str(temporary / "index"))
        except RuntimeError as error:  # Faiss's way of saying that the disk is full
            raise BeirHybridError(
                f"{folder / 'index'}: cannot be written ({str(error).splitlines()[0]}). Nothing was left half written. "
                "Free space, or choose a folder that you may write to."
            ) from error
        (temporary / "docid").write_text("".join(f"{identifier}\n" for identifier in ids), encoding="ascii")
        write_json(temporary / "manifest.json", manifest)


def _check_ids(ids: list[str]) -> None:
    if len(set(ids)) != len(ids):
        raise BeirHybridError("passages of several languages have the same id; export one setting at a time.")
    for identifier in ids:
        # Pyserini strips each line and reads in the locale's encoding: such an id would come back as another.
        if not identifier or not identifier.isascii() or any(c.isspace() or not c.isprintable() for c in identifier):
            raise BeirHybridError(
                f"the passage id {identifier!r} cannot stand in a Pyserini index: its reader needs ids of visible "
                "ASCII characters without blanks. Rename the passages."
            )


def _normalised(found: Any, rows: int) -> npt.NDArray[np.float32]:
    vectors = np.ascontiguousarray(found, dtype=np.float32)
    if vectors.ndim != 2 or len(vectors) != rows:
        raise BeirHybridError(f"the encoder gave an array of shape {vectors.shape} for {rows} passages.")
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    if not np.isfinite(norms).all() or not norms.all():
        raise BeirHybridError("the encoder gave vectors that are zero or not finite; they have no cosine.")
    return vectors if np.allclose(norms, 1, atol=1e-6) else np.ascontiguousarray(vectors / norms)
