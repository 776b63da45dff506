"""Between pairs and the trainer: rows of text by flat index, and the collator that tokenises them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sentence_transformers.sentence_transformer.data_collator import SentenceTransformerDataCollator
from torch.utils.data import Dataset

from beir_hybrid.collections.collection import MultilingualCollection
from beir_hybrid.errors import BeirHybridError, unknown
from beir_hybrid.training.batching import decode, untag
from beir_hybrid.training.mixing import BatchKind
from beir_hybrid.training.pairs import ParallelPairs

_SIDES = {"query": ("query", "anchor", "question"), "passage": ("document", "passage", "corpus", "positive")}


class PairDataset(Dataset[dict[str, Any]]):
    """Rows of text by flat index (item, query language, passage language); its length counts items.

    A row has `query`, `passage`, `label` (the item's group) and `kind` (of the batch that it was drawn for: what the
    sampler says with the index, else X-Y where its languages differ and X-X-mono where not). Nothing is held but the
    pairs: there are items x languages x languages rows.
    """

    column_names = ("query", "passage")  # for the model card

    def __init__(self, pairs: ParallelPairs) -> None:
        self.pairs = pairs

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, flat: int) -> dict[str, Any]:
        return self.__getitems__([flat])[0]

    def __getitems__(self, flats: Sequence[int]) -> list[dict[str, Any]]:
        """The rows of a batch; torch's data loader asks for a batch at once where it can."""
        rows = []
        width = len(self.pairs.languages)
        tags, plain = untag(flats, len(self.pairs) * width * width)
        decoded = (array.tolist() for array in decode(plain, width))
        for tag, item, query, passage in zip(tags, *decoded, strict=True):
            question, answer = self.pairs.pair(item, query, passage)
            group = int(self.pairs.item_group[item])
            kind = tag or (BatchKind.X_X_MONO if query == passage else BatchKind.X_Y)
            rows.append({"query": question, "passage": answer, "label": group, "kind": kind.value})
        return rows


@dataclass
class HybridDataCollator(SentenceTransformerDataCollator):
    """Tokenises rows of a PairDataset, padded to the longest of the batch, and says what kind of batch it is."""

    def __call__(self, features: list[dict[str, Any]]) -> dict[str, Any]:
        """The batch: `query_*`, `passage_*` (tokens), `label` (groups) and `batch_kind`."""
        batch = super().__call__([{name: row[name] for name in ("query", "passage", "label")} for row in features])
        batch["batch_kind"] = features[0]["kind"]  # every row's is the same
        return batch


def as_dataset(data: Any, name: str) -> PairDataset | None:
    """Pairs or a collection as a PairDataset; none stays none.

    Raises:
        BeirHybridError: the data, called `name`, are anything else.
    """
    if data is None or isinstance(data, PairDataset):
        return data
    if isinstance(data, MultilingualCollection):
        data = ParallelPairs.from_collection(data)
    if not isinstance(data, ParallelPairs):
        raise BeirHybridError(
            f"{name} is a {type(data).__name__}; expected ParallelPairs or a MultilingualCollection. "
            "To train on other data, use sentence-transformers' own trainer."
        )
    return PairDataset(data)


def training_prompts(given: str | Mapping[str, Any] | None, own: Mapping[str, str | None]) -> dict[str, str]:
    """The prompts of the columns `query` and `passage`: as `given`, else the model's `own`; empty ones are left out.

    Raises:
        BeirHybridError: `given` has a name that is none of a question's or a passage's.
    """
    if isinstance(given, str):
        return dict.fromkeys(_SIDES, given)
    for name in given or {}:
        if not any(name in names for names in _SIDES.values()):
            raise unknown("prompt", name, [name for names in _SIDES.values() for name in names])
    source = own if given is None else given
    # A model always has the names "query" and "document", often empty beside a "passage" that is filled.
    found = {side: next((source[name] for name in names if source.get(name)), None) for side, names in _SIDES.items()}
    return {side: prompt for side, prompt in found.items() if prompt}
