"""Vectors by id from files that cannot be mapped: laid out in the cache once, and mapped from then on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from beir_hybrid.anserini.reading.keyed import KeyedVectors
from beir_hybrid.collections.storage.stored import Row, StoredTexts, open_or_build, open_or_make
from beir_hybrid.encoders.laying import StoreWriter
from beir_hybrid.encoders.store import EmbeddingStore
from beir_hybrid.errors import BeirHybridError
from beir_hybrid.files import cache_root

_VERSION = 1


class Block(NamedTuple):
    """Some rows of a file: `vectors` of shape (rows, dimension), and where the first of them stands."""

    ids: list[str]
    vectors: npt.NDArray[np.float32]
    where: str


def laid_out(
    identity: list[Any], blocks: Callable[[], Iterable[Block]], source: str, *, prefixed: bool = False
) -> KeyedVectors:
    """The vectors of these blocks, which are called for only where they are not laid out yet.

    They are written whole or not at all, with one shard in memory at a time; two processes do not do so at once.

    Args:
        identity: All that the blocks depend on, as values that JSON has: they are found again by it.
        source, prefixed: As in `KeyedVectors`.

    Raises:
        BeirHybridError: an id stands twice, a vector has another length than the first, or there are none.
    """
    name = json.dumps(["vectors", _VERSION, *identity]).encode("utf-8", "surrogatepass")
    folder = cache_root() / "vectors" / hashlib.sha256(name).hexdigest()[:32]

    def make(temporary: Path) -> None:
        _make(temporary, blocks(), source)

    vectors, ids = open_or_make(folder, _opened, make, {"vectors", "ids"}, source)
    shards = sorted(path.name for path in (folder / "vectors").glob("*.npy"))
    about = {"digest": hashlib.sha256("\n".join(shards).encode()).hexdigest(), "ids_digest": ids.digest}
    return KeyedVectors(vectors, ids.ids, source, prefixed=prefixed, about=about)


def _opened(folder: Path) -> tuple[EmbeddingStore, StoredTexts] | None:
    if not (folder / "ids").is_dir():
        return None

    def never() -> list[Row]:
        raise BeirHybridError("there are none")

    try:
        ids, vectors = open_or_build(folder / "ids", never, "ids"), EmbeddingStore.open(folder / "vectors")
    except BeirHybridError:  # made by another version, or damaged: made anew
        return None
    return (vectors, ids) if len(vectors) == len(ids) else None


def _make(folder: Path, blocks: Iterable[Block], source: str) -> None:
    writers: list[StoreWriter] = []

    def rows() -> Iterator[Row]:
        for block in blocks:
            dimension = block.vectors.shape[1]
            if not writers:
                writers.append(StoreWriter(folder / "vectors", dimension))
            if dimension != writers[0].dimension:
                raise BeirHybridError(
                    f"{block.where}: a vector of {dimension} numbers, where those before it have "
                    f"{writers[0].dimension}; all must be of one model."
                )
            writers[0].add(block.vectors)
            yield from (Row(identifier, "", "", "") for identifier in block.ids)

    open_or_build(folder / "ids", rows, source)
    writers[0].close({})
