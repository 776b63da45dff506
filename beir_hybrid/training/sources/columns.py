"""Which columns of a dataset are what: as they are named, else as they are mostly called."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from beir_hybrid.errors import BeirHybridError, unknown

_KEYS = ("item", "language", "query", "passage", "negatives")
_GUESSES = {
    "item": ("item", "item_id"),
    "language": ("language", "lang"),
    "query": ("query", "anchor", "question", "sentence1", "sentence_A", "premise"),
    "passage": ("passage", "positive", "pos", "answer", "document", "sentence2", "sentence_B", "entailment"),
    "negatives": ("negatives", "negative", "hard_negatives", "hard_negative", "neg", "contradiction"),
}
_NUMBERED = re.compile(r"(hard_)?neg(ative)?s?_?(\d+)")


class Columns(NamedTuple):
    """What the columns are called; empty where there is none."""

    item: str
    language: str
    query: str
    passage: str
    negatives: tuple[str, ...]

    def all(self) -> list[str]:
        """Those that are there."""
        return [one for one in (*self[:4], *self.negatives) if one]


def found_columns(
    features: Mapping[str, Any], named: Mapping[str, str | Sequence[str]], language: str | None, name: str
) -> Columns:
    """The columns of a dataset, all of them checked to be of the right type.

    Args:
        features: Column -> its type, as `datasets` has it.
        named: Ours -> theirs, for those that are not to be guessed.
        language: The language of all rows, if the user has said it.

    Raises:
        BeirHybridError: a column is not there, or of another type; there is none for questions, passages or languages.
    """
    for key, value in named.items():
        if key not in _KEYS:
            raise unknown(f"key of columns for {name}:", key, _KEYS)
        for column in [value] if isinstance(value, str) else value:
            if column not in features:
                raise unknown(f"column of {name}:", column, features)
        if key != "negatives" and not isinstance(value, str):
            raise BeirHybridError(f"{name}: columns[{key!r}] is {value!r}; expected the name of one column.")
    if language is not None and "language" in named:
        raise BeirHybridError(f"{name}: both language and columns['language'] are given; leave one out.")
    found = {key: str(named[key]) if key in named else _guess(features, key) for key in _KEYS[:4]}
    if language is not None:
        found["language"] = ""
    for key in ("query", "passage"):
        if not found[key]:
            raise BeirHybridError(
                f"{name}: no column of {', '.join(features)} is known to be the {key}; say which is: "
                f"columns={{{key!r}: ...}}, or sentences={{'en': ..., 'de': ...}} for parallel text."
            )
    if language is None and not found["language"]:
        raise BeirHybridError(
            f"{name}: no column of {', '.join(features)} is known to be the language; say which is: "
            "columns={'language': ...}, or the language of all rows: language='en'."
        )
    columns = Columns(found["item"], found["language"], found["query"], found["passage"], _negatives(features, named))
    for column in columns.all():
        _check_type(features[column], column, columns, name)
    return columns


def check_sentences(features: Mapping[str, Any], sentences: Mapping[str, str], name: str) -> None:
    """Refuse columns of sentences that are not there or not of text."""
    if len(sentences) < 2:
        raise BeirHybridError(f"{name}: sentences={dict(sentences)!r}; expected a column for each of two languages.")
    for column in sentences.values():
        if column not in features:
            raise unknown(f"column of {name}:", column, features)
        if not _is_text(features[column]):
            raise BeirHybridError(f"{name}: column {column!r} is {features[column]}; expected text in it.")


def _guess(features: Mapping[str, Any], key: str) -> str:
    return next((one for one in _GUESSES[key] if one in features), "")


def _negatives(features: Mapping[str, Any], named: Mapping[str, str | Sequence[str]]) -> tuple[str, ...]:
    if "negatives" in named:
        columns = named["negatives"]
        return (columns,) if isinstance(columns, str) else tuple(columns)
    numbered = [(int(match[3]), one) for one in features if (match := _NUMBERED.fullmatch(one))]
    one = _guess(features, "negatives")
    return (one,) * bool(one) + tuple(column for _, column in sorted(numbered))


def _check_type(feature: Any, column: str, columns: Columns, name: str) -> None:
    fits, expected = _is_text(feature), "text"
    if column == columns.item:
        fits, expected = fits or "int" in str(getattr(feature, "dtype", "")), "text or whole numbers"
    elif column == columns.language:
        fits = fits or hasattr(feature, "names")
    elif column in columns.negatives:
        fits, expected = fits or _is_text(getattr(feature, "feature", None)), "text or lists of text"
    if not fits:
        raise BeirHybridError(
            f"{name}: column {column!r} is {feature}; expected {expected} in it. Name another column."
        )


def _is_text(feature: Any) -> bool:
    return getattr(feature, "dtype", None) in ("string", "large_string") and not hasattr(feature, "feature")
