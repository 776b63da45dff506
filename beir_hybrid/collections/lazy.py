"""Sequences of strings that are made where they are asked for: parts, chains and joins of others, copying nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]
BLOCK = 4096
"""Rows that are read at once where all are wanted: from the disk a run of rows comes much faster than one by one."""


def take(values: Sequence[str], rows: IntArray) -> list[str]:
    """The values of ascending rows, runs of rows at once."""
    found: list[str] = []
    for start in range(0, len(rows), BLOCK):
        some = rows[start : start + BLOCK]
        first, end = int(some[0]), int(some[-1]) + 1
        found += values[first:end] if end - first == len(some) else [values[row] for row in some.tolist()]
    return found


class _Lazy(Sequence[str]):
    """A sequence of strings that is made on demand: slices are lists."""

    def _at(self, row: int) -> str:
        raise NotImplementedError

    def _run(self, start: int, stop: int) -> list[str]:
        """The values of a run of rows."""
        raise NotImplementedError

    def __getitem__(self, key):  # type: ignore[no-untyped-def]
        if isinstance(key, slice):
            rows = range(len(self))[key]
            return self._run(rows.start, rows.stop) if rows.step == 1 else [self._at(row) for row in rows]
        row = int(key) + len(self) if key < 0 else int(key)
        if not 0 <= row < len(self):
            raise IndexError(key)
        return self._at(row)


class Joined(_Lazy):
    """Titles and texts joined by a blank."""

    def __init__(self, titles: Sequence[str], texts: Sequence[str]) -> None:
        self._titles, self._texts = titles, texts

    def __len__(self) -> int:
        return len(self._texts)

    def __iter__(self) -> Iterator[str]:
        return (f"{title} {text}".strip() for title, text in zip(self._titles, self._texts, strict=True))

    def _at(self, row: int) -> str:
        return f"{self._titles[row]} {self._texts[row]}".strip()

    def _run(self, start: int, stop: int) -> list[str]:
        both = zip(self._titles[start:stop], self._texts[start:stop], strict=True)
        return [f"{title} {text}".strip() for title, text in both]


class Chain(_Lazy):
    """Sequences of strings one after the other, as one; copies nothing."""

    def __init__(self, parts: Sequence[Sequence[str]]) -> None:
        self._parts = tuple(parts)
        self._ends = np.cumsum([len(part) for part in self._parts])

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def __iter__(self) -> Iterator[str]:
        for part in self._parts:
            yield from part

    def _at(self, row: int) -> str:
        part = int(np.searchsorted(self._ends, row, side="right"))
        return self._parts[part][row - (int(self._ends[part - 1]) if part else 0)]

    def _run(self, start: int, stop: int) -> list[str]:
        found: list[str] = []
        for part, end in zip(self._parts, self._ends.tolist(), strict=True):
            begin = end - len(part)
            if begin < stop and start < end:
                found += part[max(start - begin, 0) : stop - begin]
        return found


class Some(_Lazy):
    """The values of some rows, as a sequence of their own; copies nothing."""

    def __init__(self, values: Sequence[str], rows: IntArray) -> None:
        self._values, self._rows = values, rows

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[str]:
        for start in range(0, len(self._rows), BLOCK):
            yield from take(self._values, self._rows[start : start + BLOCK])

    def _at(self, row: int) -> str:
        return self._values[int(self._rows[row])]

    def _run(self, start: int, stop: int) -> list[str]:
        return take(self._values, self._rows[start:stop])


class Offset(Mapping[str, int]):
    """An index whose rows begin at `by`: the index of one part of a chain. Copies nothing."""

    def __init__(self, index: Mapping[str, int], by: int) -> None:
        self._index, self._by = index, by

    def __len__(self) -> int:
        return len(self._index)

    def __iter__(self) -> Iterator[str]:
        return iter(self._index)

    def __getitem__(self, identifier: str) -> int:
        return self._index[identifier] + self._by
