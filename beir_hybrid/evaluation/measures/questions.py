"""Which questions are translations of each other, for MRC where it is handed ids alone."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping

import numpy as np

from beir_hybrid.collections.collection import MultilingualCollection
from beir_hybrid.collections.texts import IntArray
from beir_hybrid.errors import BeirHybridError

_WITH_LANGUAGE = re.compile(r"(.+)_[a-z]{2,3}(?:-[A-Za-z0-9]{2,8})*\Z", re.DOTALL)


def item_in_id(question: str) -> str:
    """The item that an id of this package's form begins with: `56beb` of `56beb_de`.

    Raises:
        BeirHybridError: the id has another form.
    """
    found = _WITH_LANGUAGE.match(question)
    if found is None:
        raise BeirHybridError(
            f"the id {question!r} does not tell what it is a translation of, as 56beb_de does; say how it is found: "
            "measures.question_item(function), or a mapping, or the collection."
        )
    return found[1]


_current: Callable[[str], str] = item_in_id


def question_item(
    source: Callable[[str], str] | Mapping[str, str] | MultilingualCollection | None,
) -> Callable[[str], str]:
    """Say how MRC finds what a question is a translation of when ir_measures hands it ids alone.

    It holds for the process, until it is said anew.

    Args:
        source: A function or a mapping from question ids to the ids of items, or the collection that the questions are
            of; None for the default, `item_in_id`.

    Returns:
        What it was before, so that it can be put back.
    """
    global _current
    before = _current
    if source is None:
        _current = item_in_id
    elif isinstance(source, MultilingualCollection):
        items = (source.items[item] for item in source.query_item.tolist())
        _current = _of_mapping(dict(zip(source.queries.ids, items, strict=True)))
    elif isinstance(source, Mapping):
        _current = _of_mapping(source)
    else:
        _current = source
    return before


def items_of(questions: Iterable[str]) -> IntArray:
    """The number of each question's item."""
    numbers: dict[str, int] = {}
    return np.array([numbers.setdefault(_current(one), len(numbers)) for one in questions], dtype=np.int64)


def _of_mapping(mapping: Mapping[str, str]) -> Callable[[str], str]:
    def item(question: str) -> str:
        if question not in mapping:
            raise BeirHybridError(
                f"question {question!r} has no item in what measures.question_item was given; add it."
            )
        return mapping[question]

    return item
