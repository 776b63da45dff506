"""XQuAD-R and MLQA-R, and any folder in their format: SQuAD JSON, one file a language, with `sentence_breaks`.

LAReQA: Roy et al. 2020, arXiv 2004.05484. A candidate is a sentence of a paragraph; a question is answered by the
sentence in which its answer starts, in its own language and, by the shared question id, in every other.
"""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from beir_hybrid.collections.builder import CollectionBuilder
from beir_hybrid.collections.collection import CollectionInfo, MultilingualCollection
from beir_hybrid.errors import BeirHybridError
from beir_hybrid.files import read_json


def read_lareqa(folder: Path, name: str, languages: Sequence[str], info: CollectionInfo) -> MultilingualCollection:
    """Read `folder/{language}.json` for each of `languages`.

    Question ids are `{qas id}_{language}`, passage ids `{language}_{paragraph}_{sentence}`, with paragraphs counted
    from 1 in file order and sentences from 0.

    Raises:
        BeirHybridError: a file is missing, cut short or not in the format; sentence breaks lie outside their context
            or overlap; an answer is in no sentence; an id is used twice. The message names file, paragraph and item.
    """
    builder = CollectionBuilder(name, tuple(languages), info)
    for number, language in enumerate(languages):
        _read_language(builder, folder / f"{language}.json", number, language)
    return builder.build()


def _read_language(builder: CollectionBuilder, path: Path, number: int, language: str) -> None:
    content = read_json(path, "a SQuAD-format JSON file with sentence_breaks")
    paragraph_number = 0
    for a, article in enumerate(_get(content, "data", list, str(path))):
        for p, paragraph in enumerate(_get(article, "paragraphs", list, f"{path}, article {a + 1}")):
            paragraph_number += 1
            where = f"{path}, article {a + 1}, paragraph {p + 1}"
            _read_paragraph(builder, paragraph, number, language, paragraph_number, where)


def _read_paragraph(
    builder: CollectionBuilder, paragraph: Any, number: int, language: str, paragraph_number: int, where: str
) -> None:
    context = _get(paragraph, "context", str, where)
    breaks = _breaks(paragraph, context, where)
    rows = [
        builder.add_passage(f"{language}_{paragraph_number}_{s}", context[start:end], number, f"{where}, sentence {s}")
        for s, (start, end) in enumerate(breaks)
    ]
    starts = [start for start, _ in breaks]
    for question in _get(paragraph, "qas", list, where):
        identifier = _get(question, "id", str, f"{where}, a question")
        here = f"{where}, question {identifier!r}"
        answers = _get(question, "answers", list, here)
        if not answers:
            raise BeirHybridError(f"{here}: it has no answer; every question needs one with `answer_start`.")
        start = _get(answers[0], "answer_start", int, here)
        sentence = bisect.bisect_right(starts, start) - 1
        if sentence < 0 or start >= breaks[sentence][1]:
            raise BeirHybridError(
                f"{here}: its answer starts at character {start}, which is in no sentence "
                f"(sentence_breaks {breaks}; a sentence holds start <= answer_start < end)."
            )
        text = _get(question, "question", str, here)
        builder.add_query(f"{identifier}_{language}", text, number, identifier, rows[sentence], here)


def _breaks(paragraph: Any, context: str, where: str) -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []
    for pair in _get(paragraph, "sentence_breaks", list, where):
        if not (isinstance(pair, list) and len(pair) == 2 and all(type(bound) is int for bound in pair)):
            raise BeirHybridError(f"{where}: sentence_breaks has {pair!r}; expected [start, end] in characters.")
        start, end = pair
        if not (found[-1][1] if found else 0) <= start < end <= len(context):
            raise BeirHybridError(
                f"{where}: the sentence break [{start}, {end}] is empty, overlaps the one before it or lies outside "
                f"the context of {len(context)} characters."
            )
        found.append((start, end))
    return found


def _get(record: Any, key: str, kind: type, where: str) -> Any:
    """`record[key]`, which must be a `kind`; bool is no int."""
    if not isinstance(record, dict):
        raise BeirHybridError(f"{where}: expected an object with {key!r}, found {type(record).__name__}.")
    if key not in record:
        raise BeirHybridError(f"{where}: {key!r} is missing; it is needed in the LAReQA format.")
    value = record[key]
    if not isinstance(value, kind) or isinstance(value, bool):
        raise BeirHybridError(f"{where}: {key!r} is {type(value).__name__}; expected {kind.__name__}.")
    return value
