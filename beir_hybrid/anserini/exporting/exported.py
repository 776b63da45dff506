"""What an export knows about the folder that it wrote: vectors, ids and texts beside the names they have there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, overload

from beir_hybrid.anserini.exporting.ids import escape, escape_query
from beir_hybrid.collections.collection import MultilingualCollection, SettingView
from beir_hybrid.collections.lazy import Some, take
from beir_hybrid.collections.texts import IntArray
from beir_hybrid.encoders.store import EmbeddingStore, FloatArray
from beir_hybrid.errors import BeirHybridError

_UNREADABLE = str.maketrans("\t\n\r", "   ", "\ufeff")


def file_name(setting: str) -> str:
    """What a setting is called in file names: `xquad-r.multi.en`.

    Pyserini has formats of their own for topics with `cacm` in their path and for encoded queries with `bpr`.
    """
    return setting.replace("/", ".").replace("cacm", "c-acm").replace("bpr", "b-pr")


@dataclass(frozen=True, eq=False)
class ExportedQueries:
    """The questions of one setting, in the collection's order.

    Attributes:
        view: The setting.
        vectors: Shape (questions, dimension).
    """

    view: SettingView
    vectors: FloatArray

    @property
    def file(self) -> str:
        """What the setting is called in file names: `xquad-r.multi.en`."""
        return file_name(self.view.name)

    @property
    def rows(self) -> IntArray:
        """The questions' rows in the collection."""
        return self.view.query_rows

    @cached_property
    def ids(self) -> list[str]:
        """As in the collection."""
        return take(self.view.collection.queries.ids, self.rows)

    @cached_property
    def topic_ids(self) -> list[str]:
        """As in `topics/`, `qrels/` and runs."""
        return [escape_query(identifier) for identifier in self.ids]

    @cached_property
    def texts(self) -> list[str]:
        """As in the collection."""
        return take(self.view.collection.queries.texts, self.rows)

    @cached_property
    def topic_texts(self) -> list[str]:
        """As in `topics/` and `embedding.pkl`, and as Anserini's reader of topics hands them on.

        Raises:
            BeirHybridError: a question is empty, or has half of a surrogate pair.
        """
        texts = [topic_text(text) for text in self.texts]
        for identifier, text in zip(self.ids, texts, strict=True):
            if not text:
                raise BeirHybridError(
                    f"{self.view.name}: the question {identifier!r} is empty, and Anserini reads no topics after "
                    "such a one; leave it out of the collection."
                )
            check_utf8(text, identifier)
        return texts


@dataclass(frozen=True, eq=False)
class Exported:
    """A folder that Pyserini opens, and what was written into it.

    Attributes:
        folder: Where it is.
        manifest: What `manifest.json` says.
        collection: Whose passages they are.
        passage_rows: Their rows in the collection, in the index's order.
        passages: Their vectors, exact, in that order, read from disk where they are asked for.
        prefixed: Whether a passage's id stands behind its language in the folder, for languages share ids.
        settings: The questions of each exported setting, by its name (`xquad-r/multi/en`).
    """

    folder: Path
    manifest: Mapping[str, Any]
    collection: MultilingualCollection
    passage_rows: IntArray
    passages: EmbeddingStore
    prefixed: bool
    settings: Mapping[str, ExportedQueries]

    @property
    def passage_ids(self) -> Sequence[str]:
        """As in the collection."""
        return Some(self.collection.passages.ids, self.passage_rows)

    @property
    def docids(self) -> Sequence[str]:
        """As in `docid`, `qrels/`, `corpus/` and runs: a line in row order."""
        return Docids(self.collection, self.passage_rows, self.prefixed)


class Docids(Sequence[str]):
    """The ids of passages as they stand in the folder, made when they are asked for."""

    def __init__(self, collection: MultilingualCollection, rows: IntArray, prefixed: bool) -> None:
        self._passages, self._codes, self._rows, self._prefixed = (
            collection.passages,
            collection.languages,
            rows,
            prefixed,
        )

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, key: int) -> str: ...
    @overload
    def __getitem__(self, key: slice) -> list[str]: ...
    def __getitem__(self, key: int | slice) -> str | list[str]:
        if isinstance(key, slice):
            return self.of(self._rows[key])
        return self.of(self._rows[[key]])[0]

    def __iter__(self) -> Iterator[str]:
        for start in range(0, len(self), 4096):
            yield from self[start : start + 4096]

    def of(self, rows: IntArray) -> list[str]:
        """Of some rows of the collection, ascending."""
        ids = take(self._passages.ids, rows)
        if not self._prefixed:
            return [escape(identifier) for identifier in ids]
        codes = self._passages.language[rows].tolist()
        return [f"{self._codes[code]}:{escape(identifier)}" for code, identifier in zip(codes, ids, strict=True)]


def topic_text(text: str) -> str:
    """A question as a line of topics can hold it: blanks for tabs and ends of lines, none at either end.

    Java's `trim` takes all up to U+0020 away, controls too, and Anserini drops byte order marks; encoded queries are
    found by what is left.
    """
    return text.translate(_UNREADABLE).strip("".join(map(chr, range(33))))


def check_utf8(text: str, identifier: str) -> str:
    """The text, if a file can hold it.

    Raises:
        BeirHybridError: it has half of a surrogate pair.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        raise BeirHybridError(
            f"the text {identifier!r} has half of a surrogate pair, which no file in UTF-8 can hold; repair the source."
        ) from None
    return text
