"""The vectors that an export needs, encoded once, on disk, a shard at a time, by whichever kind of encoder."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from beir_hybrid.collections.texts import IntArray, first_of_equal
from beir_hybrid.encoders.dense import DenseEncoder, Side
from beir_hybrid.encoders.digests import model_digest, texts_digest
from beir_hybrid.encoders.shards import (
    MANIFEST,
    VERSION,
    count_shards,
    find_shards,
    read_manifest,
    rows_of,
    write_shard,
)
from beir_hybrid.encoders.store import SHARD_ROWS, EmbeddingStore, FloatArray
from beir_hybrid.encoders.storing import encode_to_store, store_for
from beir_hybrid.errors import BeirHybridError
from beir_hybrid.files import write_json

LENGTH = 1e-3
"""By how much the length of a vector may differ from 1: half precision rounds that far."""
FEW = 8
_SAME = 1e-3


class Encoder(Protocol):
    """BEIR's model contract. `score_function` ("cos_sim", the default, or "dot") and `describe()` are optional."""

    def encode_queries(self, queries: list[str], **kwargs: Any) -> Any:
        """Shape (queries, dimension)."""

    def encode_corpus(self, corpus: list[dict[str, str]], **kwargs: Any) -> Any:
        """Shape (passages, dimension), of dicts with `title` and `text`."""


@dataclass(frozen=True)
class Source:
    """An encoder, and what its vectors have to be.

    Attributes:
        model: A DenseEncoder, or anything with BEIR's two methods.
        cosine: Whether inner products are to be cosines: every vector then has the length 1.
        normalise: Whether vectors are brought to that length, where the encoder leaves that to the search.
        passages, questions: A few of each, for a look at what an encoder that is no DenseEncoder gives.
        shard_rows: Texts that are in memory at a time, with their vectors.
        progress: Show a bar on standard error, if that is a terminal.
    """

    model: Any
    cosine: bool = True
    normalise: bool = False
    passages: Sequence[str] = ()
    questions: Sequence[str] = ()
    shard_rows: int = SHARD_ROWS
    progress: bool = True

    @cached_property
    def key(self) -> dict[str, Any]:
        """What the vectors depend on beside the texts, as far as it is known."""
        model, about = self.model, {"cosine": self.cosine, "normalise": self.normalise}
        if not isinstance(model, DenseEncoder):
            return {"class": f"{type(model).__module__}.{type(model).__qualname__}", **about}
        prompts = [model.prompt("query"), model.prompt("passage")]
        return {"model": model_digest(model.model), "prompts": prompts, "precision": model.wanted_precision, **about}

    @cached_property
    def dimension(self) -> int:
        """Numbers of a vector; an encoder that does not say is asked to encode a few texts of each kind.

        Raises:
            BeirHybridError: questions and passages have different ones, or the vectors are not what they should be.
        """
        if isinstance(self.model, DenseEncoder):
            return int(self.model.model.get_embedding_dimension() or 0)
        found, asked = self._first_passages.shape[1], self._first_passages.shape[1]
        if self.questions:
            asked = self._by_beir(self.questions, "query", 0).shape[1]
        if found != asked:
            raise BeirHybridError(
                f"{_name(self.model)} gives passages {found} dimensions and questions {asked}; an index needs one "
                "dimension for both. Check that both of its methods are of one model."
            )
        return int(found)

    @property
    def looks_like(self) -> str | None:
        """What the first vectors of an encoder are that says nothing of itself, to the third digit."""
        if isinstance(self.model, DenseEncoder):
            return None
        return hashlib.sha256((self._first_passages.round(3) + 0.0).tobytes()).hexdigest()

    @cached_property
    def _first_passages(self) -> FloatArray:
        return self._by_beir(self.passages, "passage", 0)

    def encode(self, texts: Sequence[str], side: Side, root: Path) -> EmbeddingStore:
        """The vectors of `texts`, by row, from below the folder `root`, encoded first as far as they are not there.

        Equal texts are encoded once and share the vector, so that they tie in every search.

        Raises:
            BeirHybridError: a vector is not what it should be, or nothing can be written there.
        """
        different, place = first_of_equal(texts)
        root.mkdir(parents=True, exist_ok=True)
        if isinstance(self.model, DenseEncoder):
            digest = texts_digest(different)
            folder = store_for(self.model, different, side, root, digest=digest)
            store = encode_to_store(
                self.model,
                different,
                side,
                folder,
                digest=digest,
                shard_rows=self.shard_rows,
                progress=self.progress,
            )
        else:
            store = self._encode_by_beir(different, side, root / f"{side}-{texts_digest(different)[:32]}")
        # Every shard is opened now, and stays so: the folder may be gone before the last one is read.
        _ = store[np.arange(0, len(store), store.manifest["shard_rows"])]
        return store if place is None else arranged(store, place)

    def _encode_by_beir(self, texts: Sequence[str], side: Side, folder: Path) -> EmbeddingStore:
        """As `encode_to_store`, for an encoder that nobody knows: it is the same as before if it gives the same."""
        from tqdm.auto import tqdm

        few = self._by_beir(texts[:FEW], side, 0)
        rows = {"rows": len(texts), "dimension": few.shape[1], "shard_rows": self.shard_rows}
        manifest = {"version": VERSION, **rows, "dtype": "float32", "name": _name(self.model), "side": side, **self.key}
        if (folder / MANIFEST).exists() and not _goes_on(folder, manifest, few):
            shutil.rmtree(folder)
        if not (folder / MANIFEST).exists():
            write_json(folder / MANIFEST, manifest)
        there = find_shards(folder, manifest)
        what = "questions" if side == "query" else "passages"
        off = None if self.progress else True
        with tqdm(total=len(texts), desc=f"Encoding {what}", unit="text", disable=off) as bar:
            for number in range(count_shards(manifest)):
                start, size = number * self.shard_rows, rows_of(manifest, number)
                if number not in there:
                    write_shard(folder, number, self._by_beir(texts[start : start + size], side, start))
                bar.update(size)
        return EmbeddingStore.open(folder)

    def _by_beir(self, texts: Sequence[str], side: Side, start: int) -> FloatArray:
        options = {"batch_size": 32, "show_progress_bar": False}
        if side == "query":
            found = self.model.encode_queries(list(texts), **options)
        else:
            found = self.model.encode_corpus([{"title": "", "text": text} for text in texts], **options)
        if hasattr(found, "detach"):  # a torch tensor, on whatever device and in whatever precision
            found = found.detach().cpu().float().numpy()
        vectors = np.ascontiguousarray(found, dtype=np.float32)
        if vectors.ndim != 2 or len(vectors) != len(texts) or not vectors.shape[1]:
            raise BeirHybridError(
                f"{_name(self.model)} gave an array of shape {vectors.shape} for {len(texts)} texts; expected one row "
                "each, (texts, dimensions)."
            )
        if self.normalise:
            length = np.linalg.norm(vectors, axis=1, keepdims=True)
            vectors = np.ascontiguousarray(vectors / np.where(length > 0, length, 1), dtype=np.float32)
        check_vectors(vectors, self.cosine, lambda row: f"the {side} {texts[row][:60]!r} (row {start + row})")
        return vectors


def check_vectors(vectors: FloatArray, cosine: bool, name: Callable[[int], str]) -> None:
    """Whether an index of these vectors ranks by what it says it does.

    Args:
        cosine: Whether inner products have to be cosines.
        name: What a row is called in errors.

    Raises:
        BeirHybridError: a vector is zero or not finite, or is not of length 1 and should be.
    """
    length = np.sqrt(np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64))
    wrong = np.flatnonzero(~(np.isfinite(length) & (length > 0)))
    if len(wrong):
        row = int(wrong[0])
        raise BeirHybridError(
            f"the vector of {name(row)} is {'zero' if length[row] == 0 else 'not finite'}; {len(wrong)} of "
            f"{len(vectors)} texts that were encoded with it are like this, and no search would rank them. Encode that "
            "text alone to see why (half precision may overflow)."
        )
    if cosine and len(wrong := np.flatnonzero(np.abs(length - 1) > LENGTH)):
        row = int(wrong[0])
        raise BeirHybridError(
            f"the vector of {name(row)} has the length {length[row]:.4g}, so its inner products are no cosines. Have "
            'it normalised (normalise=True), or rank by inner product (similarity="dot") if the model is made for that.'
        )


def arranged(store: EmbeddingStore, place: IntArray) -> EmbeddingStore:
    """The vectors of some rows of a store, in any order and as often as they are named, as a store of its own."""

    def shard(number: int) -> npt.NDArray[Any]:
        return store[place[number * SHARD_ROWS : (number + 1) * SHARD_ROWS]]

    return EmbeddingStore(None, store.manifest, (len(place), store.dimension), np.float32, SHARD_ROWS, shard)


def _goes_on(folder: Path, manifest: dict[str, Any], few: FloatArray) -> bool:
    """Whether a store that was begun is of these texts, and its first vectors are what the encoder gives now."""
    if read_manifest(folder) != manifest:
        return False
    there = find_shards(folder, manifest)
    if 0 not in there:
        return not there
    first = np.load(there[0], allow_pickle=False)[: len(few)]
    return bool(np.allclose(first, few, atol=_SAME * float(np.abs(few).max())))


def _name(model: Any) -> str:
    return str(getattr(model, "name", None) or type(model).__qualname__)
