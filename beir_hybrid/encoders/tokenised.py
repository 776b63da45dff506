"""Texts as tokens: made once, sorted by length, and padded in batches of so many tokens."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

IntArray = npt.NDArray[np.int64]
_BLOCK = 4096
"""Texts that are tokenised at once."""
_SAMPLE = 4


class Tokenised:
    """Texts as tokens, ready to be made into batches.

    A model's `preprocess` tokenises each batch by itself, and for sorting by length all had to be tokenised before.
    Here it is done once, and batches are padded from the numbers that are kept. Whether that gives what `preprocess`
    does is tried on some of the texts, the longest among them; where it does not (a tokenizer of another kind, a
    special template), `preprocess` does each batch.
    """

    def __init__(self, model: SentenceTransformer, texts: Sequence[str], prompt: str) -> None:
        self._model, self._texts, self._prompt = model, texts, prompt or None
        self._features: dict[str, Any] = {}
        if not getattr(model.tokenizer, "is_fast", False):
            longest = model.max_seq_length or 512
            self.lengths = np.array([min(longest, len(prompt) + len(text)) for text in texts], dtype=np.int64)
            return
        self._ids, self.lengths = _tokens(model, texts, prompt)
        self._starts = np.append(0, np.cumsum(self.lengths))
        if not len(texts):
            return
        by_length = np.argsort(-self.lengths, kind="stable")
        sample = np.unique(np.concatenate([by_length[:_SAMPLE], np.arange(min(_SAMPLE, len(texts)))]))
        wanted = self._by_model(sample)
        if _equal(self._padded(sample, wanted), wanted):
            self._features = dict(wanted)

    def __len__(self) -> int:
        return len(self._texts)

    def batch(self, rows: IntArray) -> dict[str, Any]:
        """The model's features of some rows, padded to the longest of them."""
        return self._padded(rows, self._features) if self._features else self._by_model(rows)

    def batches(self, budget: int, rows: IntArray | None = None) -> Iterator[IntArray]:
        """All or some rows in batches of like length.

        The longest come first, so that memory runs out at once or never; the other batches are mixed, so that the speed
        so far is that of what is left.
        """
        rows = np.arange(len(self)) if rows is None else rows
        order = rows[np.argsort(-self.lengths[rows], kind="stable")]
        found, start = [], 0
        while start < len(order):
            size = max(1, budget // max(1, int(self.lengths[order[start]])))
            found.append(order[start : start + size])
            start += size
        yield from found[:1]
        for number in np.random.default_rng(0).permutation(max(0, len(found) - 1)).tolist():
            yield found[number + 1]

    def first(self, tokens: int) -> IntArray:
        """The first rows that have about so many tokens together; at least one."""
        return np.arange(max(1, int(np.searchsorted(np.cumsum(self.lengths), tokens, side="right"))))

    def _by_model(self, rows: IntArray) -> dict[str, Any]:
        return dict(self._model.preprocess([self._texts[row] for row in rows.tolist()], prompt=self._prompt))

    def _padded(self, rows: IntArray, like: Mapping[str, Any]) -> dict[str, Any]:
        """Features by the same names as in `like`, from the tokens that are kept."""
        import torch

        tokenizer = self._model.tokenizer
        lengths = self.lengths[rows]
        width = int(lengths.max())
        place = np.arange(width)
        mask = place < lengths[:, None]
        if tokenizer.padding_side == "left":
            mask = mask[:, ::-1]
        ids = np.full((len(rows), width), tokenizer.pad_token_id or 0, dtype=np.int64)
        ids[mask] = np.concatenate([self._ids[self._starts[row] : self._starts[row + 1]] for row in rows.tolist()])
        made = {
            "input_ids": ids,
            "attention_mask": mask.astype(np.int64),
            "token_type_ids": np.zeros_like(ids),  # of a model that tells a first from a second text
        }
        return {name: torch.from_numpy(made[name]) if name in made else value for name, value in like.items()}


def token_counts(model: SentenceTransformer, texts: Sequence[str], prompt: str = "") -> IntArray:
    """How many tokens each text has for the model, at most its maximum; shape (texts,)."""
    found = [np.empty(0, dtype=np.int64)]
    return np.concatenate(found + [np.fromiter(map(len, ids), np.int64) for ids in _ids(model, texts, prompt)])


def _tokens(model: SentenceTransformer, texts: Sequence[str], prompt: str) -> tuple[npt.NDArray[np.int32], IntArray]:
    """The tokens of all texts one after the other, and how many each has."""
    parts, lengths = [np.empty(0, dtype=np.int32)], [np.empty(0, dtype=np.int64)]
    for block in _ids(model, texts, prompt):
        lengths.append(np.fromiter(map(len, block), np.int64))
        parts += [np.array(ids, dtype=np.int32) for ids in block]
    return np.concatenate(parts), np.concatenate(lengths)


def _ids(model: SentenceTransformer, texts: Sequence[str], prompt: str) -> Iterator[list[list[int]]]:
    """The tokens of each text, cut at the model's maximum, in blocks: lists of Python numbers are large."""
    for start in range(0, len(texts), _BLOCK):
        # Padding is said, since a tokenizer remembers what it was last told.
        yield model.tokenizer(
            [prompt + text for text in texts[start : start + _BLOCK]],
            padding=False,
            truncation=True,
            max_length=model.max_seq_length or 512,
            return_attention_mask=False,
            return_token_type_ids=False,
        )["input_ids"]


def _equal(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> bool:
    import torch

    tensors = [(ours[name], value) for name, value in theirs.items() if torch.is_tensor(value)]
    return "input_ids" in theirs and all(torch.equal(one, other) for one, other in tensors)
