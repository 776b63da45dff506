"""The vectors of an index that was made in parts, on machines that share no disk."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from beir_hybrid.anserini.exporting.plan import Plan, shard_folder
from beir_hybrid.anserini.indexes.flat import map_flat
from beir_hybrid.encoders.store import SHARD_ROWS, EmbeddingStore, FloatArray
from beir_hybrid.errors import BeirHybridError
from beir_hybrid.files import read_json, sha256_file

_DIFFERS = ("collection_digest", "passages", "encoder", "shards")


def of_shards(plan: Plan, folder: Path) -> EmbeddingStore:
    """The vectors of all shards of the index that goes to `folder`, as one store.

    Raises:
        BeirHybridError: a shard is missing, damaged, or of another collection, model or division.
    """
    parts, precisions = [], set()
    for number in range(plan.shards):
        path = shard_folder(folder, number)
        if not (path / "manifest.json").is_file():
            raise BeirHybridError(
                f"{path}: is missing; make it with shard={number} and shards={plan.shards} (--shard {number} --shards "
                f"{plan.shards}), or copy it here from where it was made."
            )
        manifest: Any = read_json(path / "manifest.json", "the manifest of a shard")
        wanted = plan.of_shard(number).request
        found = manifest.get("request") or {}
        if differing := [name for name in _DIFFERS if found.get(name) != wanted[name]]:
            raise BeirHybridError(
                f"{path}: is not shard {number} of {plan.shards} of this index: {', '.join(differing)} differ. Make it "
                "anew with the same model, collection, settings and number of shards."
            )
        if sha256_file(path / "index") != manifest["files"]["index"]["sha256"]:
            raise BeirHybridError(f"{path / 'index'}: its bytes are not those that were written; make the shard anew.")
        parts.append(EmbeddingStore.from_array(map_flat(path / "index")))
        precisions.add(manifest["precision"]["passage"])
    return chained(parts, {"precision": " and ".join(sorted(map(str, precisions)))})


def chained(parts: Sequence[EmbeddingStore], manifest: dict[str, Any]) -> EmbeddingStore:
    """Stores one after the other, as one; copies no more than a block at a time."""
    ends = np.cumsum([len(part) for part in parts])

    def shard(number: int) -> FloatArray:
        start, stop = number * SHARD_ROWS, min((number + 1) * SHARD_ROWS, int(ends[-1]))
        first = [max(start - int(end) + len(part), 0) for end, part in zip(ends, parts, strict=True)]
        last = [stop - int(end) + len(part) for end, part in zip(ends, parts, strict=True)]
        return np.concatenate(
            [
                part[a : min(b, len(part))]
                for part, a, b in zip(parts, first, last, strict=True)
                if a < min(b, len(part))
            ]
        )

    shape = (int(ends[-1]), parts[0].dimension)
    return EmbeddingStore(None, manifest, shape, np.float32, SHARD_ROWS, shard)
