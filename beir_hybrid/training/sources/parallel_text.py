"""Sentences and their translations: files that are aligned by line, or a table with a column for each language."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from itertools import zip_longest
from pathlib import Path
from typing import IO

from beir_hybrid.errors import BeirHybridError
from beir_hybrid.files import expanded, file_states
from beir_hybrid.training.pairs import ParallelPairs
from beir_hybrid.training.sources.store import PairRow, Part, Source, open_pairs

_WHAT = "sentences and their translations"
_CODE = re.compile(r"[A-Za-z]{2,8}([-_][A-Za-z0-9]{1,8})*")
_BOM = b"\xef\xbb\xbf"


def read_parallel_text(
    paths: str | Path | Mapping[str, str | Path], languages: Sequence[str] | None = None, name: str | None = None
) -> ParallelPairs:
    """Read sentences and their translations, UTF-8, plain or gzip.

    Each sentence is both question and passage of its language; batches ask for it in other languages only
    (`same_language` is false). An empty sentence is none; where a line has fewer than two sentences it is left out.

    Args:
        paths: Files in which line n of one is the translation of line n of another (`{"en": "a.en", "de": "a.de"}`,
            the layout of Moses), or one file of columns separated by tabs, with a first line of language codes.
        languages: The codes to keep, in this order, at least two; by default all, in alphabetical order.
        name: What the source is called in records; by default after the first file.

    Raises:
        BeirHybridError: a file is missing or broken, files have different numbers of lines, a line has too few or too
            many columns; a language that is not there. Says file and line.
    """
    if isinstance(paths, Mapping):
        files = {str(code): expanded(path) for code, path in paths.items()}
        if len(files) < 2:
            raise BeirHybridError(
                f"{len(files)} files of parallel text were named; expected one for each of two languages or more, or "
                "one path of a table whose first line has language codes."
            )
        known = list(files.values())
        identity: list[object] = ["lines", list(files), *file_states(known, _WHAT)]
        lines = partial(_aligned, files)
    else:
        path = expanded(paths)
        known = [path]
        identity = ["table", *file_states(known, _WHAT)]
        lines = partial(_table, path)
    place = ", ".join(map(str, known))
    source = Source(
        name or known[0].name.split(".")[0],
        identity,
        lambda: [Part(place, sentence_rows(lines()))],
        same_language=False,
    )
    return open_pairs(source, languages)


def sentence_rows(lines: Iterable[Mapping[str, str]]) -> Iterator[PairRow]:
    """The rows of sentences by language, line by line; a sentence of blanks is none, and a single one is left out."""
    for number, sentences in enumerate(lines, 1):
        there = {code: text for code, sentence in sentences.items() if (text := sentence.strip())}
        if len(there) > 1:
            for code, text in there.items():
                yield PairRow(str(number), code, text, text)


def _aligned(files: Mapping[str, Path]) -> Iterator[dict[str, str]]:
    with ExitStack() as stack:
        streams = {code: stack.enter_context(_Lines(path)) for code, path in files.items()}
        for line in zip_longest(*streams.values()):
            if None in line:
                _refuse_unequal(files, streams)
            yield dict(zip(streams, line, strict=True))


def _refuse_unequal(files: Mapping[str, Path], streams: Mapping[str, _Lines]) -> None:
    counts = {code: stream.number + sum(1 for _ in stream) for code, stream in streams.items()}
    listed = ", ".join(f"{counts[code]:,} in {path}" for code, path in files.items())
    raise BeirHybridError(
        f"different numbers of lines: {listed}; line n of each must be the same sentence. Align them."
    )


def _table(path: Path) -> Iterator[dict[str, str]]:
    with _Lines(path) as lines:
        codes = [code.strip() for code in next(lines, "").split("\t")]
        if len(codes) < 2 or len(set(codes)) < len(codes) or not all(map(_CODE.fullmatch, codes)):
            raise BeirHybridError(
                f"{path}, line 1: {', '.join(code[:40] for code in codes)!r}; expected two or more different language "
                "codes separated by tabs (en, de). Put such a line before the sentences."
            )
        for line in lines:
            sentences = line.split("\t")
            if len(sentences) != len(codes):
                raise BeirHybridError(
                    f"{path}, line {lines.number}: {len(sentences)} columns; expected {len(codes)} "
                    f"({', '.join(codes)}), separated by tabs."
                )
            yield dict(zip(codes, sentences, strict=True))


class _Lines(Iterator[str]):
    """The lines of a file without their ends. Only a line feed ends one: Unicode's others may stand in it."""

    def __init__(self, path: Path) -> None:
        self.path, self.number = path, 0

    def __enter__(self) -> _Lines:
        import gzip

        try:
            with open(self.path, "rb") as file:
                zipped = file.read(2) == b"\x1f\x8b"
            self._stream: IO[bytes] = gzip.open(self.path) if zipped else open(self.path, "rb")  # type: ignore[assignment]
        except OSError as error:
            raise BeirHybridError(f"{self.path}: cannot be read ({error.strerror}); expected {_WHAT}.") from None
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()

    def __next__(self) -> str:
        try:
            line = self._stream.readline()
        except (OSError, EOFError, zlib.error) as error:  # as gzip has it, for data that is corrupt or ends too early
            raise BeirHybridError(
                f"{self.path}: cannot be read after line {self.number} ({error}); fetch or write it again."
            ) from None
        if not line:
            raise StopIteration
        self.number += 1
        if self.number == 1:
            line = line.removeprefix(_BOM)
        try:
            return line.rstrip(b"\r\n").decode()
        except UnicodeDecodeError as error:
            raise BeirHybridError(
                f"{self.path}, line {self.number}: not UTF-8 at byte {error.start + 1} of the line; convert it."
            ) from None
