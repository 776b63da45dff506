"""One row of parallel pairs, and what may be wrong with it."""

from __future__ import annotations

from typing import NamedTuple

from beir_hybrid.errors import BeirHybridError


class PairRow(NamedTuple):
    """A question and the passage that answers it, in one language.

    Attributes:
        item: Rows of one item are translations of each other.
        negatives: Passages in this language that do not answer the question.
        question: Items of one question, named by an id, are one group: the passage of each answers it. Empty where
            every item is a question of its own.
    """

    item: str
    language: str
    query: str
    passage: str
    negatives: tuple[str, ...] = ()
    question: str = ""


def fault(row: PairRow, name: str, number: int) -> BeirHybridError | None:
    """What is wrong with a row, row `number` of what is called `name`, if anything is."""
    where = f"{name}, row {number}"
    for key, value in zip(PairRow._fields[:4], row, strict=False):
        if not isinstance(value, str):
            return BeirHybridError(f"{where}: {key!r} is {_kind(value)}; expected a string.")
        if not value.strip():
            return BeirHybridError(f"{where}: {key!r} is empty; expected a string with text in it.")
    if not isinstance(row.negatives, list | tuple):
        return BeirHybridError(f"{where}: 'negatives' is {_kind(row.negatives)}; expected a list of strings.")
    for negative in row.negatives:
        if not (isinstance(negative, str) and negative.strip()):
            found = "empty" if isinstance(negative, str) else _kind(negative)
            return BeirHybridError(f"{where}: one of 'negatives' is {found}; expected strings with text in them.")
    if not isinstance(row.question, str):
        return BeirHybridError(f"{where}: 'question' is {_kind(row.question)}; expected a string.")
    for text in (*row[:4], *row.negatives, row.question):
        try:
            text.encode()
        except UnicodeEncodeError as error:
            return BeirHybridError(
                f"{where}, item {row.item!r}: half of a surrogate pair ({error.object[error.start]!r}), which is no "
                "text; repair the source."
            )
    return None


def _kind(value: object) -> str:
    return "missing" if value is None else f"a {type(value).__name__}"
