"""Questions that mix two parallel languages, to see how an encoder takes code-mixed input.

The idea of mixing languages in one prompt is that of language blending, arXiv 2407.07342; the rule here is our own, and
needs no word alignment. Each of the two questions is cut in `SPANS` spans of as near as can be equal length: in words,
or in characters as readers see them where a language writes no blanks. Half of the spans, drawn by the seed and the
item, come from the first language and the others from the second, each from its own place in the sentence, joined by
blanks. The draw is a hash, so a question's blend depends on nothing but the seed, the item and the two languages.
"""

from __future__ import annotations

import hashlib
import itertools
import re
from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import regex

from beir_hybrid.collections.collection import MultilingualCollection
from beir_hybrid.collections.texts import IntArray, Relevance, Texts
from beir_hybrid.errors import BeirHybridError

SPANS = 4
_FROM_FIRST = list(itertools.combinations(range(SPANS), SPANS // 2))
_WITHOUT_BLANKS = frozenset({"zh", "ja", "th", "lo", "km", "my"})
_PAIR = re.compile(r"([^+~/]+)\+([^+~/]+?)(?:~([1-9][0-9]{0,8}))?\Z")


def blend_text(first: tuple[str, str], second: tuple[str, str], item: str, seed: int = 0) -> str:
    """One question from two, each given as (language, text)."""
    key = f"{seed}\0{first[0]}\0{second[0]}\0{item}".encode("utf-8", "surrogatepass")
    drawn = int.from_bytes(hashlib.sha256(key).digest()[:8], "little") % len(_FROM_FIRST)
    spans = [_spans(*first), _spans(*second)]
    mixed = [spans[0 if place in _FROM_FIRST[drawn] else 1][place] for place in range(SPANS)]
    return " ".join(span for span in mixed if span)


def _spans(language: str, text: str) -> list[str]:
    if language.split("-")[0].lower() in _WITHOUT_BLANKS:
        units, glue = regex.findall(r"\X", " ".join(text.split())), ""
    else:
        units, glue = text.split(), " "
    bounds = [round(place * len(units) / SPANS) for place in range(SPANS + 1)]
    return [glue.join(units[a:b]).strip() for a, b in itertools.pairwise(bounds)]


def blended(collection: MultilingualCollection, pairs: Iterable[str]) -> MultilingualCollection:
    """The collection with blended questions beside its own, for each of `pairs` of languages (`de+en`).

    A blended question's language is the pair, in alphabetical order; `de+en~7` draws with seed 7, and without a number
    the seed is 0. What answers an item answers its blend. The settings are then also `blend/de+en/de`,
    `blend/de+en/en`, any other language that has an answer, and `blend/de+en/multi`; a name that carries its seed is
    the record of it.

    Raises:
        BeirHybridError: a pair that is not of two of the collection's languages; no question is parallel in the two.
    """
    found = [_parse(collection, pair) for pair in dict.fromkeys(canonical(pair) for pair in pairs)]
    row_of = {
        (int(item), int(language)): row
        for row, (item, language) in enumerate(zip(collection.query_item, collection.queries.language, strict=True))
    }
    codes, questions = collection.languages, collection.queries.texts
    ids: list[str] = []
    texts: list[str] = []
    languages: list[int] = []
    items: list[int] = []
    sources: list[tuple[int, int]] = []
    for number, (name, a, b, seed) in enumerate(found):
        before = len(ids)
        for item, identifier in enumerate(collection.items):
            first, second = row_of.get((item, a)), row_of.get((item, b))
            if first is None or second is None:
                continue
            one, other = ((codes[code], questions[row]) for code, row in ((a, first), (b, second)))
            ids.append(f"{identifier}_{name}")
            texts.append(blend_text(one, other, identifier, seed))
            languages.append(len(codes) + number)
            items.append(item)
            sources.append((first, second))
        if len(ids) == before:
            raise BeirHybridError(f"{collection.name}: no question is there in both languages of {name!r}.")
    queries = collection.queries
    more = _of_both(collection.judgements, np.array(sources, dtype=np.int64))
    return replace(
        collection,
        languages=(*codes, *(name for name, *_ in found)),
        queries=Texts(
            (*queries.ids, *ids), (*queries.texts, *texts), np.append(queries.language, languages).astype(np.int16)
        ),
        query_item=np.append(collection.query_item, items).astype(np.int64),
        judgements=Relevance(
            np.append(collection.judgements.start, collection.judgements.start[-1] + more.start[1:]),
            np.append(collection.judgements.passages, more.passages),
            np.append(collection.judgements.grades, more.grades),
        ),
    )


def _of_both(judgements: Relevance, sources: IntArray) -> Relevance:
    """What was judged for either of two questions; the higher grade where both were."""
    parts = [judgements.of_queries(rows) for rows in sources.T]
    query, passage, grade = (
        np.concatenate([getattr(part, name) for part in parts]).astype(np.int64)
        for name in ("queries", "passages", "grades")
    )
    order = np.lexsort((-grade, passage, query))
    query, passage, grade = query[order], passage[order], grade[order]
    new = np.append(True, (np.diff(query) != 0) | (np.diff(passage) != 0))[: len(query)]
    counts = np.bincount(query[new], minlength=len(sources))
    return Relevance(np.append(0, np.cumsum(counts)), passage[new], grade[new].astype(np.int16))


def canonical(pair: str) -> str:
    """A pair with its languages in alphabetical order, and without a seed of 0: `en+de~0` is `de+en`.

    Raises:
        BeirHybridError: it is not two languages.
    """
    match = _PAIR.match(pair.removesuffix("~0"))
    if match is None or match[1] == match[2]:
        raise BeirHybridError(f"{pair!r} is not a blend; expected two languages as in de+en, or de+en~7 for seed 7.")
    seed = f"~{match[3]}" if match[3] else ""
    return "+".join(sorted((match[1], match[2]))) + seed


def _parse(collection: MultilingualCollection, pair: str) -> tuple[str, int, int, int]:
    match = _PAIR.match(pair)
    if match is None:  # canonical() has let it through
        raise BeirHybridError(f"{pair!r} is not a blend.")
    a, b = collection.language_number(match[1]), collection.language_number(match[2])
    return pair, a, b, int(match[3] or 0)
