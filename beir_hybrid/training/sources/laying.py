"""Laying rows of pairs out on disk: one pass over the rows, then arithmetic on numbers alone.

What is written while the rows come by, beside the texts themselves, are numbers: where the texts of each pair are, and
64-bit hashes of what pairs are told apart by. Tables (`tables.py`) are made of those when the rows are through.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from itertools import chain
from operator import add
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from beir_hybrid.collections.storage.storing import hashes, string_array
from beir_hybrid.errors import BeirHybridError
from beir_hybrid.training.sources.row import PairRow, fault

TEXTS = "texts.arrow"
SCHEMA = pa.schema([("text", pa.string())])
# A batch is whole in memory, several times over, while it is written; it ends at the first of the two.
BATCH_ROWS = 8192
BATCH_CHARACTERS = 2**22
LONGEST_ROW = 256 * 2**20  # characters; keeps a batch far below the 2 GiB that its 32-bit offsets can address
# By pair: its item, its passage and its question as hashes, its language, the rows of its texts, and how many negatives
# it has. By negative: its hash and its row.
SCRATCH = {
    "item": "<u8",
    "passage": "<u8",
    "question": "<u8",
    "language": "<i2",
    "query_row": "<i8",
    "passage_row": "<i8",
    "count": "<i4",
    "negative": "<u8",
    "negative_row": "<i8",
}


class Part(NamedTuple):
    """Some of the rows, and what they are from, for errors: a file's path."""

    place: str
    rows: Iterable[PairRow]


class Laid(NamedTuple):
    """What a pass over the rows has found: `place` names the file, or what else, and the row in it, from 1."""

    languages: tuple[str, ...]
    digest: str
    starts: list[int]
    negatives: int
    place: Callable[[int], tuple[str, int]]


def scratch(folder: Path, name: str) -> Path:
    """Where a column of `SCRATCH` is; the store has no such file when it is done."""
    return folder / f"scratch.{name}"


def write_texts(folder: Path, parts: Iterable[Part], what: str) -> Laid:
    """Write the texts of all rows, in their order, and the numbers in `SCRATCH`, into files in `folder`.

    A text that is met again before a batch is through is stored once: sentences that are both question and passage, and
    passages that neighbours share.

    Raises:
        BeirHybridError: a field is empty, of a wrong type, too long, or no text; or a passage is its own negative.
    """
    # Texts, their lengths, and how many negatives each row has: three streams, none of which depends on batches.
    content, lengths, counts = hashlib.sha256(), hashlib.sha256(), hashlib.sha256()
    languages, starts, negatives = dict[str, int](), [0], 0
    begun: list[tuple[int, str]] = []

    def place(row: int) -> tuple[str, int]:
        first, name = next(one for one in reversed(begun) if one[0] <= row)
        return name, row - first + 1

    with ExitStack() as stack:
        files = {name: stack.enter_context(open(scratch(folder, name), "wb")) for name in SCRATCH}
        table = stack.enter_context(pa.ipc.new_file(stack.enter_context(pa.OSFile(str(folder / TEXTS), "wb")), SCHEMA))
        done = 0
        for batch in _batches(parts, begun, place, what):
            columns = _Columns.of(batch, done, place)
            content.update(columns.content)
            lengths.update(np.fromiter(map(len, columns.fields), "<u4").tobytes())
            counts.update(columns.counts.tobytes())
            table.write_batch(pa.record_batch([string_array(columns.texts)], schema=SCHEMA))
            numbers = columns.numbers(starts[-1], languages)
            _check_negatives(numbers, batch, done, place)
            for name, values in numbers.items():
                files[name].write(values.astype(SCRATCH[name], copy=False).tobytes())
            starts.append(starts[-1] + len(columns.texts))
            negatives += len(numbers["negative"])
            done += len(batch)
    if not done:
        raise BeirHybridError(f"{what}: no texts at all; expected at least one pair.")
    if len(languages) > np.iinfo(np.int16).max:
        raise BeirHybridError(f"{what}: {len(languages)} languages; is the field of the language right?")
    digest = hashlib.sha256(content.digest() + lengths.digest() + counts.digest()).hexdigest()
    return Laid(tuple(languages), digest, starts, negatives, place)


def _batches(
    parts: Iterable[Part], begun: list[tuple[int, str]], place: Callable[[int], tuple[str, int]], what: str
) -> Iterator[list[PairRow]]:
    from tqdm.auto import tqdm

    batch: list[PairRow] = []
    characters = done = 0
    with tqdm(desc=what, unit=" pairs", unit_scale=True, delay=3, disable=None) as progress:
        for part in parts:
            begun.append((done + len(batch), part.place))
            for row in part.rows:
                batch.append(row)
                try:
                    length = len(row[2]) + len(row[3]) + (sum(map(len, row[4])) if row[4] else 0)
                except TypeError:
                    length = 0  # a wrong type, which is looked into soon
                if length > LONGEST_ROW:
                    name, number = place(done + len(batch) - 1)
                    raise BeirHybridError(
                        f"{name}, row {number}: {length} characters, at most {LONGEST_ROW} are stored; shorten it."
                    )
                characters += length
                if len(batch) >= BATCH_ROWS or characters >= BATCH_CHARACTERS:
                    yield batch
                    done += len(batch)
                    progress.update(len(batch))
                    batch, characters = [], 0
        if batch:
            yield batch
            progress.update(len(batch))


class _Columns(NamedTuple):
    """A batch, turned into columns. `fields` are all strings of all rows in order; `at`, each text's row in `texts`."""

    items: tuple[str, ...]
    languages: tuple[str, ...]
    questions: tuple[str, ...]
    stripped: list[str]
    stripped_negatives: list[str]
    counts: npt.NDArray[np.int32]
    fields: list[str]
    content: bytes
    texts: list[bytes]
    at: npt.NDArray[np.int64]

    @classmethod
    def of(cls, batch: list[PairRow], done: int, place: Callable[[int], tuple[str, int]]) -> _Columns:
        """The columns of a batch that begins at row `done`."""
        try:
            items, languages, queries, passages, negatives, questions = zip(*batch, strict=True)
            negatives = tuple(map(_tupled, negatives))
            stripped = list(map(str.strip, passages))
            apart = list(map(str.strip, chain.from_iterable(negatives)))
            rows = zip(items, languages, questions, queries, passages, strict=True)
            fields = list(chain.from_iterable(map(add, rows, negatives)))
            content = "".join(fields).encode()
            whole = (
                all(all(map(str.strip, one)) for one in (items, languages, queries)) and all(stripped) and all(apart)
            )
        except (TypeError, ValueError):  # UnicodeEncodeError is one
            whole = False
        if not whole:
            raise next(filter(None, (fault(row, *place(done + number)) for number, row in enumerate(batch))))
        # All texts of the first pair, then all of the second: a row is read from one place on the disk.
        known: dict[str, int] = {}
        pairs = zip(queries, passages, strict=True)
        at = [known.setdefault(text, len(known)) for text in chain.from_iterable(map(add, pairs, negatives))]
        counts = np.fromiter(map(len, negatives), "<i4", len(batch))
        texts = list(map(str.encode, known))
        return cls(
            items, languages, questions, stripped, apart, counts, fields, content, texts, np.array(at, dtype=np.int64)
        )

    def numbers(self, first: int, languages: dict[str, int]) -> dict[str, npt.NDArray[Any]]:
        """What is in each file of `SCRATCH`; `first` is the row of the first text."""
        place = 2 * np.arange(len(self.items)) + np.cumsum(self.counts) - self.counts
        negative = np.ones(len(self.at), dtype=bool)
        negative[place] = negative[place + 1] = False
        asked = any(self.questions)
        question = _hashed(self.questions) if asked else np.zeros(len(self.items), dtype=np.uint64)
        if asked and not all(self.questions):
            question = np.where(np.fromiter(map(bool, self.questions), bool), question, np.uint64(0))
        return {
            "item": _hashed(self.items),
            "passage": _hashed(self.stripped),
            "question": question,
            "language": np.array([languages.setdefault(code, len(languages)) for code in self.languages]),
            "query_row": first + self.at[place],
            "passage_row": first + self.at[place + 1],
            "count": self.counts,
            "negative": _hashed(self.stripped_negatives),
            "negative_row": first + self.at[negative],
        }


def _hashed(texts: Iterable[str]) -> npt.NDArray[np.uint64]:
    return hashes(list(map(str.encode, texts)))


def _tupled(negatives: Any) -> tuple[str, ...]:
    if type(negatives) is tuple:
        return negatives
    if isinstance(negatives, list | tuple):
        return tuple(negatives)
    raise TypeError


def _check_negatives(
    numbers: dict[str, npt.NDArray[Any]],
    batch: list[PairRow],
    done: int,
    place: Callable[[int], tuple[str, int]],
) -> None:
    """Refuse a passage that is its own negative."""
    owner = np.repeat(np.arange(len(batch)), numbers["count"])
    same = np.flatnonzero(numbers["negative"] == numbers["passage"][owner])
    if len(same):
        row = int(owner[same[0]])
        name, number = place(done + row)
        raise BeirHybridError(
            f"{name}, row {number} (item {batch[row].item[:80]!r}): one of its negatives is its own passage; "
            "leave that negative out."
        )
