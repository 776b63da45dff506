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
from beir_hybrid.training.joined import JoinedPairs
from beir_hybrid.training.mixing import BatchKind
from beir_hybrid.training.pairs import ParallelPairs

NO_NEGATIVE = -2
_SIDES = {"query": ("query", "anchor", "question"), "passage": ("document", "passage", "corpus", "positive")}


class PairDataset(Dataset[dict[str, Any]]):
    """Rows of text by flat index (item, query language, passage language); its length counts items.

    A row has `query`, `passage`, `label` (the item's group) and `kind` (of the batch that it was drawn for: what the
    sampler says with the index, else X-Y where its languages differ and X-X-mono where not). With explicit negatives it
    also has `negative_1` and so on, and `label` is a list: the item's group, then for each negative the group of the
    items that it answers after all, -1 where it answers none, or -2 where the item has no such negative and the text is
    empty. Nothing is held but the pairs: there are items x languages x languages rows.

    Args:
        pairs: One source, or several.
        negatives: How many explicit negatives a row has: the first of those that its item has in the passage's
            language.

    Raises:
        BeirHybridError: explicit negatives are asked for, and no source has any.
    """

    def __init__(self, pairs: ParallelPairs | JoinedPairs | Sequence[ParallelPairs], negatives: int = 0) -> None:
        self.pairs, self.negatives = JoinedPairs.of(pairs), negatives
        if negatives and not any(part.negatives is not None for part in self.pairs.parts):
            raise BeirHybridError(
                f"hard_negatives is {negatives}, and {self.pairs.name} has no explicit negatives; set it to 0."
            )
        self.column_names = ("query", "passage", *(f"negative_{n + 1}" for n in range(negatives)))  # for the model card

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
            question, answer, group, negatives = self.pairs.row(item, query, passage, self.negatives)
            kind = tag or (BatchKind.X_X_MONO if query == passage else BatchKind.X_Y)
            row: dict[str, Any] = {"query": question, "passage": answer, "label": group, "kind": kind.value}
            if self.negatives:
                negatives += [("", NO_NEGATIVE)] * (self.negatives - len(negatives))
                row |= {f"negative_{n}": text for n, (text, _) in enumerate(negatives, 1)}
                row["label"] = [group, *(other for _, other in negatives)]
            rows.append(row)
        return rows


@dataclass
class HybridDataCollator(SentenceTransformerDataCollator):
    """Tokenises rows of a PairDataset, padded to the longest of the batch, and says what kind of batch it is."""

    def __call__(self, features: list[dict[str, Any]]) -> dict[str, Any]:
        """The batch: `query_*`, `passage_*`, `negative_1_*`, ... (tokens), `label` and `batch_kind`."""
        batch = super().__call__([{name: row[name] for name in row if name != "kind"} for row in features])
        batch["batch_kind"] = features[0]["kind"]  # every row's is the same
        return batch

    def _get_prompt_for_column(self, prompts: str | dict[str, str], column_name: str) -> str | None:
        return super()._get_prompt_for_column(
            prompts, "passage" if column_name.startswith("negative_") else column_name
        )


def as_dataset(data: Any, name: str, negatives: int = 0) -> PairDataset | None:
    """Pairs or a collection, or several of them, as a PairDataset; none stays none.

    Raises:
        BeirHybridError: the data, called `name`, are anything else.
    """
    if data is None or isinstance(data, PairDataset):
        return data
    if isinstance(data, JoinedPairs):
        return PairDataset(data, negatives)
    sources = data if isinstance(data, (list, tuple)) else [data]
    pairs = [ParallelPairs.from_collection(one) if isinstance(one, MultilingualCollection) else one for one in sources]
    for one in pairs:
        if not isinstance(one, ParallelPairs):
            raise BeirHybridError(
                f"{name} is a {type(one).__name__}; expected ParallelPairs or a MultilingualCollection, or a list of "
                "them. To train on other data, use sentence-transformers' own trainer."
            )
    return PairDataset(pairs, negatives)


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
