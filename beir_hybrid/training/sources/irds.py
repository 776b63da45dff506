"""Parallel pairs from ir_datasets: questions with a relevant document each, and documents that are not."""

from __future__ import annotations

import contextlib
import importlib.metadata
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from itertools import chain
from pathlib import Path
from typing import Any

from beir_hybrid.errors import BeirHybridError, library_errors
from beir_hybrid.training.pairs import ParallelPairs
from beir_hybrid.training.sources.judgements import Judgements, from_qrels, from_triples
from beir_hybrid.training.sources.store import PairRow, Part, Source, open_pairs

_BLOCK = 2048  # pairs whose documents are asked for together


def read_ir_datasets(
    ids: str | Mapping[str, str],
    parallel: bool = False,
    negatives: int = 0,
    languages: Sequence[str] | None = None,
    name: str | None = None,
) -> ParallelPairs:
    """Read pairs from datasets of ir_datasets, which downloads what it lacks.

    An item is a question with one of its positives: the first document of a document pair where the dataset has those,
    else a document judged above 0. Items of one question are one group. Negatives are the second documents of the pairs
    of that question and positive, or the documents judged 0 or less for the question: the first `negatives` of them.
    One that is empty, or has the text of the positive, is left out.

    Args:
        ids: Language -> dataset: `{"en": "mmarco/v2/en/train", "de": "mmarco/v2/de/train"}`; or one dataset, of which
            ir_datasets knows the language.
        parallel: Whether an id names the same question, and the same document, in every language. Without, items of
            different languages are different.
        negatives: How many explicit negatives an item has at most.
        languages: The codes to keep, in this order; by default all, in alphabetical order.
        name: What the source is called in records; by default after the datasets.

    Raises:
        BeirHybridError: a dataset is not there, cannot be read, or lacks documents, questions or judgements; a question
            or document is judged but not there. Says dataset and id.
    """
    if negatives < 0:
        raise BeirHybridError(f"negatives={negatives}: expected how many an item has at most, 0 or more.")
    data = _loaded({"": ids} if isinstance(ids, str) else dict(ids))
    known = {code: one_id for code, (one_id, _) in data.items()}
    identity = ["ir_datasets", importlib.metadata.version("ir-datasets"), parallel, negatives]
    identity += [[code, one_id, _version(dataset)] for code, (one_id, dataset) in data.items()]
    source = Source(name or ", ".join(known.values()), identity, lambda: _parts(data, parallel, negatives))
    return open_pairs(source, languages)


def _loaded(ids: dict[str, str]) -> dict[str, tuple[str, Any]]:
    """Language -> id and dataset, each with all that pairs are made of."""
    if not ids:
        raise BeirHybridError("no datasets were named; expected one or more, such as {'sw': 'miracl/sw/train'}.")
    found = {}
    for code, one in ids.items():
        with _reading(one):
            import ir_datasets

            dataset = ir_datasets.load(one)
            lacks = [
                what
                for what, there in (
                    ("documents", dataset.has_docs()),
                    ("questions", dataset.has_queries()),
                    ("judgements (qrels or docpairs)", dataset.has_qrels() or dataset.has_docpairs()),
                )
                if not there
            ]
            language = code or dataset.queries_lang() if not lacks else ""
        if lacks:
            raise BeirHybridError(
                f"{one} has no {' and no '.join(lacks)}; name a part of it that has, mostly one that ends in /train."
            )
        if not language:
            raise BeirHybridError(f"{one}: ir_datasets does not know its language; say it: {{'en': {one!r}}}.")
        found[language] = (one, dataset)
    return found


def _parts(data: Mapping[str, tuple[str, Any]], parallel: bool, most: int) -> Iterator[Part]:
    # Languages may share their judgements, as all of mMARCO do: those are read once.
    handler, judged = None, None
    for code, (name, dataset) in data.items():
        with _reading(name):
            pairs = dataset.has_docpairs()
            mine = dataset.docpairs_handler() if pairs else dataset.qrels_handler()
            if judged is None or mine is not handler:
                handler, judged = mine, _judgements(dataset, pairs, most)
        if not len(judged):
            raise BeirHybridError(f"{name}: no document is judged to be relevant; name a part of it where some are.")
        yield Part(f"ir_datasets {name}", _rows(name, dataset, judged, code, "" if parallel else f"{code}\t"))


def _judgements(dataset: Any, pairs: bool, most: int) -> Judgements:
    if pairs:
        return from_triples(((row.query_id, row.doc_id_a, row.doc_id_b) for row in dataset.docpairs_iter()), most)
    return from_qrels(((row.query_id, row.doc_id, row.relevance) for row in dataset.qrels_iter()), most)


def _rows(name: str, dataset: Any, judged: Judgements, code: str, prefix: str) -> Iterator[PairRow]:
    with _reading(name):
        asked = {judged.queries[number] for number in set(judged.query.tolist())}
        questions = {one.query_id: _text(one, name) for one in dataset.queries_iter() if one.query_id in asked}
        store = dataset.docs_store()
    for first in range(0, len(judged), _BLOCK):
        last = min(first + _BLOCK, len(judged))
        start = judged.start[first : last + 1].tolist()
        numbers = chain(judged.positive[first:last].tolist(), judged.negative[start[0] : start[-1]].tolist())
        wanted = [judged.documents[number] for number in dict.fromkeys(numbers)]
        with _reading(name):
            texts = {one: _text(document, name) for one, document in store.get_many(wanted).items()}
        for pair in range(first, last):
            query, positive = judged.queries[judged.query[pair]], judged.documents[judged.positive[pair]]
            others = judged.negative[start[pair - first] : start[pair - first + 1]].tolist()
            passage = _of(texts, positive, "document", name)
            found = (_of(texts, judged.documents[number], "document", name) for number in others)
            yield PairRow(
                f"{prefix}{query}\t{positive}",
                code,
                _of(questions, query, "question", name),
                passage,
                tuple(one for one in found if one.strip() and one.strip() != passage.strip()),
                prefix + query,
            )


def _of(texts: Mapping[str, str], identifier: str, what: str, name: str) -> str:
    try:
        return texts[identifier]
    except KeyError:
        raise BeirHybridError(
            f"{name}: the {what} {identifier!r} is judged but not there; judgements and {what}s must be of one version."
        ) from None


def _text(record: Any, name: str) -> str:
    """The text of a question or document, with its title where it has one."""
    text = record.default_text() if hasattr(record, "default_text") else getattr(record, "text", None)
    if not isinstance(text, str):
        raise BeirHybridError(f"{name}: a {type(record).__name__} has no text; name another dataset.")
    return text


def _version(dataset: Any) -> list[object]:
    """What is known of the version of a dataset without reading it: checksums, addresses, and states of local files.

    A file that ir_datasets downloads is checked against its checksum then, so it need not be there.
    """
    handlers = [dataset.docs_handler(), dataset.queries_handler()]
    handlers.append(dataset.docpairs_handler() if dataset.has_docpairs() else dataset.qrels_handler())
    found, seen, waiting = list[object](), set[int](), list[Any](handlers)
    while waiting:
        one = waiting.pop()
        if isinstance(one, list | tuple):
            waiting += one
        elif type(one).__module__.startswith("ir_datasets") and id(one) not in seen and hasattr(one, "__dict__"):
            seen.add(id(one))
            fields = vars(one)
            found += [fields[key] for key in ("expected_md5", "url", "uri") if isinstance(fields.get(key), str)]
            if type(one).__name__ == "LocalDownload":
                with contextlib.suppress(OSError):
                    state = Path(fields["_path"]).stat()
                    found.append([str(fields["_path"]), state.st_size, state.st_mtime_ns])
            waiting += fields.values()
    return sorted(found, key=str)


def _reading(name: str) -> AbstractContextManager[None]:
    return library_errors(
        f"ir_datasets cannot read {name}", "See what `ir_datasets list` knows, and whether its files are whole."
    )
