"""What an export is to hold, settled and checked before anything is encoded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from beir_hybrid.anserini.exporting.exported import Docids, ExportedQueries
from beir_hybrid.anserini.exporting.vectors import Source
from beir_hybrid.anserini.indexes.factory import IndexKind
from beir_hybrid.collections.collection import KINDS, MultilingualCollection, Setting, SettingView
from beir_hybrid.collections.lazy import Some
from beir_hybrid.collections.registry import is_path, load_collection, load_setting
from beir_hybrid.collections.texts import IntArray
from beir_hybrid.errors import BeirHybridError, unknown

FORMAT = 1
_NO_VECTORS = np.empty((0, 0), dtype=np.float32)


@dataclass(frozen=True, eq=False)
class Plan:
    """An export, as it was asked for.

    Attributes:
        views: The settings whose questions go with the index; all search the same passages.
        rows: The passages, ascending.
        shard: Which one of how many parts of the passages is written, and no more; None for a whole index.
        shards: Of how many such parts, written before, the index is put together; 1 for none.
    """

    collection: MultilingualCollection
    views: tuple[SettingView, ...]
    rows: IntArray
    kind: IndexKind
    source: Source
    vectors: bool
    query_encoder: bool
    shard: int | None
    shards: int

    @property
    def prefixed(self) -> bool:
        """Whether ids need their language to be told apart."""
        return not self.collection.passages.ids_differ

    @property
    def docids(self) -> Docids:
        """The ids of the passages in the folder."""
        return Docids(self.collection, self.rows, self.prefixed)

    @property
    def texts(self) -> Sequence[str]:
        """The passages, read where they are asked for."""
        return Some(self.collection.passages.full_texts, self.rows)

    @property
    def request(self) -> dict[str, Any]:
        """All that the folder depends on, but the versions of what writes it."""
        return {
            "format": FORMAT,
            "collection_digest": self.collection.digest,
            "settings": [view.name for view in self.views],
            "passages": [int(self.rows[0]), int(self.rows[-1]), len(self.rows)],
            **self.kind.describe(),
            "vectors": self.vectors,
            "query_encoder": self.query_encoder,
            "shard": self.shard,
            "shards": self.shards,
            "encoder": self.source.key,
            "looks_like": self.source.looks_like,
        }

    def of_shard(self, number: int) -> Plan:
        """The plan of one shard: Pyserini divides rows likewise, and the last one has what is left."""
        size = len(self.rows) // self.shards
        end = len(self.rows) if number == self.shards - 1 else (number + 1) * size
        part = self.rows[number * size : end]
        return replace(self, views=(), rows=part, kind=IndexKind(), vectors=False, query_encoder=False, shard=number)


def shard_folder(folder: Path, number: int) -> Path:
    """Where the index of a shard goes: as `pyserini.index.merge_faiss_indexes --prefix FOLDER.shard` looks for it."""
    return folder.parent / f"{folder.name}.shard{number}"


def find(
    collection: MultilingualCollection | SettingView | str | Path, setting: Setting | str | Sequence[str] | None
) -> tuple[MultilingualCollection, tuple[SettingView, ...]]:
    """The collection, and the settings to export.

    Raises:
        BeirHybridError: there is no such collection or setting, or the settings search different passages.
    """
    if isinstance(collection, str) and not is_path(collection) and "/" in collection:
        collection = load_setting(collection)
    elif isinstance(collection, str | Path):
        collection = load_collection(collection)
    if isinstance(collection, SettingView):
        if setting is not None:
            raise BeirHybridError(f"{collection.name} is one setting already; leave out `setting`.")
        return collection.collection, (collection,)
    if setting is None:
        kinds = ("mono",) if len(collection.languages) == 1 else ("multi",)
        return collection, tuple(collection.view(one) for one in collection.settings if one.kind in kinds)
    names = [str(setting)] if isinstance(setting, str | Setting) else [str(one) for one in setting]
    return collection, _chosen(collection, names)


def check(plan: Plan) -> None:
    """Refuse what could not be written, before anything is encoded.

    Raises:
        BeirHybridError: there are no passages, an id or a question is empty, or Faiss has no such index.
    """
    if not len(plan.rows):
        raise BeirHybridError(f"{plan.collection.name}: there are no passages to export.")
    if plan.shards < 1 or (plan.shard is not None and not 0 <= plan.shard < plan.shards):
        raise BeirHybridError(
            f"shard {plan.shard} of {plan.shards}: shards are counted from 0; expected one from 0 to {plan.shards - 1}."
        )
    if plan.shards > len(plan.rows):
        raise BeirHybridError(f"{len(plan.rows)} passages make no {plan.shards} shards; ask for fewer.")
    plan.kind.check(len(plan.rows), plan.source.dimension)
    for _ in plan.docids:  # each is looked at as it is escaped
        pass
    for view in plan.views:
        queries = ExportedQueries(view, _NO_VECTORS)
        _ = queries.topic_ids, queries.topic_texts


def _chosen(collection: MultilingualCollection, names: Sequence[str]) -> tuple[SettingView, ...]:
    views: list[SettingView] = []
    for name in names:
        kind = name.removeprefix(f"{collection.name}/")
        found = [one for one in collection.settings if one.kind == kind]
        if kind in KINDS and not found:
            raise unknown("setting", name, map(str, collection.settings))
        views += [collection.view(one) for one in (found or [collection.setting(name)])]
    for view in views:
        if view.setting.searched != views[0].setting.searched:
            raise BeirHybridError(
                f"{views[0].name} and {view.name} search different passages, and an index is of one pool; export each "
                "into a folder of its own."
            )
    if not views:
        raise BeirHybridError("no settings were asked for; leave `setting` out for the whole pool.")
    return tuple({view.name: view for view in views}.values())
