"""How a text becomes terms for BM25: Anserini's analyzer of its language, or a plain one where it has none."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import regex

ENGLISH = "io.anserini.analysis.DefaultEnglishAnalyzer"
WHITESPACE = frozenset({"ha", "so", "sw", "yo"})
"""Languages that Anserini splits at blanks and does nothing else to: so were the published runs on MIRACL made."""

_WORD = regex.compile(r"[\w\p{M}]+")
_UNSPACED = regex.compile(r"([\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}\p{Han}\p{Hiragana}\p{Katakana}]+)")


@dataclass(frozen=True)
class Analysis:
    """How the texts of a language are analysed.

    Attributes:
        kind: `lucene`: the analyzer that Anserini has for the language. `whitespace`: split at blanks by Anserini.
            `words`: split here into lower-case words, and into pairs of characters where a script has no blanks.
        name: The Java class, or what is done instead.
    """

    language: str
    kind: Literal["lucene", "whitespace", "words"]
    name: str

    @property
    def options(self) -> list[str]:
        """What Anserini is told, as its command line takes it."""
        return ["-language", self.language] if self.kind == "lucene" else ["-pretokenized"]

    def prepare(self, text: str) -> str:
        """What Anserini is given of `text`."""
        return " ".join(words(text)) if self.kind == "words" else text


def analyzer_for(language: str, known: Mapping[str, str]) -> Analysis:
    """How texts of a language are analysed.

    A question that blends two languages (`de+en`) is analysed as one of the first.

    Args:
        known: Language -> Java class, of the analyzers that work here: `lucene.analyzers()` in a process with Java.
    """
    language = language.partition("+")[0]
    if language in known:
        return Analysis(language, "lucene", known[language])
    # Anserini itself takes English analysis for a language that it does not know, without a word.
    if language in WHITESPACE:
        return Analysis(language, "whitespace", "split at blanks")
    return Analysis(language, "words", "lower-case words; pairs of characters where a script has no blanks")


def words(text: str) -> list[str]:
    """Lower-case words; where a script writes no blanks, the pairs of neighbouring characters.

    Stands in where Anserini has no analyzer: no stemming, no stop words.
    """
    found: list[str] = []
    for word in _WORD.findall(text.lower()):
        for number, part in enumerate(_UNSPACED.split(word)):
            if number % 2 and len(part) > 1:
                found += [a + b for a, b in pairwise(part)]
            elif part:
                found.append(part)
    return found
