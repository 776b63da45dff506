"""The six columns of a TREC run file: query id, Q0, document id, rank, score, tag."""

from __future__ import annotations

import contextlib
import gzip
import io
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from beir_hybrid.errors import BeirHybridError
from beir_hybrid.files import atomic_file

_COLUMNS = "query id, Q0, document id, rank, score, tag"

Line = tuple[str, str, float]


def lines(path: Path) -> Iterator[tuple[int, Line]]:
    """The line number, from 1, and (query id, document id, score) of each line that is not blank.

    Raises:
        BeirHybridError: the file cannot be read, has no lines, or one that is not of six columns with a number.
    """
    number, seen = 0, False
    try:
        with gzip.open(path) if path.suffix == ".gz" else open(path, "rb") as stream:
            for number, raw in enumerate(stream, start=1):
                columns = raw.decode("utf-8-sig" if number == 1 else "utf-8").split()
                if not columns:
                    continue
                if len(columns) != 6:
                    raise BeirHybridError(
                        f"{path}, line {number}: {len(columns)} columns; expected 6: {_COLUMNS}, with blanks between."
                    )
                seen = True
                yield number, (columns[0], columns[2], _number(columns[4], path, number))
    except UnicodeDecodeError as error:
        raise BeirHybridError(
            f"{path}, line {number}: not UTF-8 at byte {error.start} of the line; expected a run of {_COLUMNS}."
        ) from None
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise BeirHybridError(
            f"{path}: cannot be read beyond line {number} ({reason}); expected a TREC run, gzip only where its name "
            "ends in .gz."
        ) from None
    if not seen:
        raise BeirHybridError(f"{path}: is empty; expected a TREC run of 6 columns: {_COLUMNS}.")


def second_line(path: Path, query: str, document: str) -> str:
    """Where a query's document stands for the second time: file and line."""
    found = [number for number, line in lines(path) if line[:2] == (query, document)]
    return f"{path}, line {found[1]}" if len(found) > 1 else str(path)


@contextlib.contextmanager
def writer(path: Path, tag: str) -> Iterator[Callable[[str, Sequence[str], Sequence[float]], None]]:
    """A function that writes a query's documents and their scores, best first; ranks are counted from 1.

    Raises:
        BeirHybridError: an id or the tag is empty or holds white space, or the file cannot be written.
    """
    _check("the tag", tag)
    with atomic_file(path) as temporary, _opened(temporary, path.suffix == ".gz") as stream:

        def write(query: str, documents: Sequence[str], scores: Sequence[float]) -> None:
            _check("query id", query)
            for document in documents:
                _check("document id", document)
            # Nine digits are enough to tell any two numbers of single precision apart.
            ranked = enumerate(zip(documents, scores, strict=True), start=1)
            stream.writelines(f"{query} Q0 {one} {rank} {score:.9g} {tag}\n" for rank, (one, score) in ranked)

        yield write


@contextlib.contextmanager
def _opened(path: Path, zipped: bool) -> Iterator[IO[str]]:
    with contextlib.ExitStack() as stack:
        raw: Any = stack.enter_context(open(path, "wb"))
        if zipped:  # without name or time: one run, one file
            raw = stack.enter_context(gzip.GzipFile(filename="", mode="wb", fileobj=raw, mtime=0))
        yield stack.enter_context(io.TextIOWrapper(raw, encoding="utf-8", newline="\n"))


def _check(what: str, value: str) -> None:
    if value.split() != [value]:
        raise BeirHybridError(
            f"{what} {value!r} cannot stand in a TREC run, whose columns blanks part; expected one word. "
            "Write the results as JSON, or give the texts other ids."
        )


def _number(text: str, path: Path, line: int) -> float:
    try:
        return float(text)
    except ValueError:
        raise BeirHybridError(
            f"{path}, line {line}: the score is {text!r}; expected a number in the fifth column of {_COLUMNS}."
        ) from None
