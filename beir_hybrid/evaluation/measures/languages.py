"""The language of a document, for measures that are handed ids alone."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping

import numpy as np

from beir_hybrid.collections.collection import MultilingualCollection
from beir_hybrid.collections.texts import IntArray
from beir_hybrid.errors import BeirHybridError

# Strict, because a looser form would take `doc_1` for a document in the language "doc".
_IN_ID = re.compile(r"([a-z]{2,3}(?:-[A-Za-z0-9]{2,8})*)_[0-9]+_[0-9]+\Z")


def language_in_id(document: str) -> str:
    """The language that an id of this package's form begins with: `de` of `de_3_1`.

    Raises:
        BeirHybridError: the id has another form.
    """
    found = _IN_ID.match(document)
    if found is None:
        raise BeirHybridError(
            f"the id {document!r} does not tell the language of its document, as de_3_1 does; say how it is found: "
            "measures.document_language(function), or a mapping, or the collection."
        )
    return found[1]


_current: Callable[[str], str] = language_in_id


def document_language(
    source: Callable[[str], str] | Mapping[str, str] | MultilingualCollection | None,
) -> Callable[[str], str]:
    """Say how LanguageRecall and AWRF find the language of a document when ir_measures hands them ids alone.

    It holds for the process, until it is said anew. Where the collection is at hand (`evaluate_grid`, `run_ranks`) the
    languages are the collection's, and this is not asked.

    Args:
        source: A function or a mapping from document ids to codes, or the collection that the documents are of; None
            for the default, `language_in_id`.

    Returns:
        What it was before, so that it can be put back.

    Raises:
        BeirHybridError: ids of the collection repeat between its languages.
    """
    global _current
    before = _current
    if source is None:
        _current = language_in_id
    elif isinstance(source, MultilingualCollection):
        _current = _of_collection(source)
    elif isinstance(source, Mapping):
        _current = _of_mapping(source)
    else:
        _current = source
    return before


def languages_of(documents: Iterable[str]) -> tuple[IntArray, tuple[str, ...]]:
    """The number of each document's language, and the codes that the numbers mean."""
    numbers: dict[str, int] = {}
    found = [numbers.setdefault(_current(document), len(numbers)) for document in documents]
    return np.array(found, dtype=np.int64), tuple(numbers)


def _of_mapping(mapping: Mapping[str, str]) -> Callable[[str], str]:
    def language(document: str) -> str:
        if document not in mapping:
            raise BeirHybridError(
                f"document {document!r} has no language in the mapping given to measures.document_language; add it."
            )
        return mapping[document]

    return language


def _of_collection(collection: MultilingualCollection) -> Callable[[str], str]:
    if not collection.passages.ids_differ:
        raise BeirHybridError(f"{collection.name}: ids repeat between languages, so an id does not tell its language.")

    def language(document: str) -> str:
        row = collection.passages.find(document)
        if row is None:
            raise BeirHybridError(
                f"{collection.name} has no passage {document!r}; give measures.document_language the collection that "
                "the run was made of."
            )
        return collection.languages[int(collection.passages.language[row])]

    return language
