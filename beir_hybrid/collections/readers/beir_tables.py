"""The tables of a collection as BEIR has them: passages, questions, and which passage was judged how for which.

A table is JSON lines (plain or gzip), Parquet, or for judgements a file of columns.
"""

from __future__ import annotations

import csv
import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from beir_hybrid.collections.builder import Judgement, check_question, judged_collection
from beir_hybrid.collections.collection import KINDS, CollectionInfo, Kind, MultilingualCollection
from beir_hybrid.collections.storage.jsonl import id_field, read_jsonl, text_field
from beir_hybrid.collections.storage.parquet import read_parquet
from beir_hybrid.collections.texts import Texts
from beir_hybrid.errors import BeirHybridError
from beir_hybrid.files import cache_root

# A corpus in files of more bytes than this is kept on disk.
IN_MEMORY = 64 * 2**20
_LINE = 2**20
_JSON = (".jsonl", ".json", ".jsonl.gz", ".json.gz")
_PASSAGE_LANGUAGE = re.compile(r"[A-Za-z][A-Za-z0-9_-]*\Z")
_QUERY_LANGUAGE = re.compile(r"[A-Za-z][A-Za-z0-9_-]*(\+[A-Za-z][A-Za-z0-9_-]*(~[1-9][0-9]*)?)?\Z")
_WHOLE = re.compile(r"([+-]?[0-9]{1,9})(\.0*)?\Z")
_QUERY, _CORPUS = ("query-id", "query_id"), ("corpus-id", "corpus_id")
_COLUMNS = {"_id", "id", "title", "text", "language", "metadata", "item", "score", *_QUERY, *_CORPUS}
_PASSAGES, _QUESTIONS, _QRELS = "a corpus as BEIR has it", "questions as BEIR has them", "judgements as BEIR has them"


class Tables(NamedTuple):
    """The files of the three tables."""

    corpus: tuple[Path, ...]
    queries: tuple[Path, ...]
    qrels: tuple[Path, ...]


def read_tables(
    tables: Tables, name: str, info: CollectionInfo, language: str, query_language: str, allow_missing: bool
) -> MultilingualCollection:
    """The collection in three tables; a question without any judgement is left out.

    Args:
        language, query_language: Of passages and of questions that do not say theirs.

    Raises:
        BeirHybridError: as `read_beir`.
    """
    _code(language, _PASSAGE_LANGUAGE, name)
    _code(query_language, _QUERY_LANGUAGE, name)
    judged = [_judged(record, where) for where, record in _records(tables.qrels, _QRELS)]
    first = {one.query: one.where for one in reversed(judged)}
    codes: dict[str, int] = {}
    passages = _passages(tables.corpus, language, codes)
    pool = tuple(codes)
    queries, items = _queries(tables.queries, query_language, codes, first)
    row_of = {identifier: row for row, identifier in enumerate(queries.ids)}
    for identifier, where in first.items():
        if identifier not in row_of:
            raise BeirHybridError(
                f"{where}: the question {identifier!r} is judged, and {tables.queries[0]} has no such question."
            )
    languages = tuple(codes)
    asking = {languages[number] for number in np.unique(queries.language)}
    lines = (Judgement(row_of[one.query], one.passage, one.grade, one.where) for one in judged)
    found = judged_collection(
        name,
        languages,
        queries,
        passages,
        lines,
        info,
        items=items,
        kinds=_kinds(pool, asking),
        allow_missing=allow_missing,
    )
    return replace(found, same_ids=True)


class _Judged(NamedTuple):
    query: str
    passage: str
    grade: int
    where: str


_Records = Iterator[tuple[str, dict[str, Any]]]
_Passage = tuple[str, str, str, str]  # id, title, text, language


def _records(files: Sequence[Path], what: str) -> _Records:
    """The rows of a table, each with its place."""
    for file in files:
        if file.name.endswith(_JSON):
            where = f"{file}, line "
            for number, record in read_jsonl(file, what):
                yield f"{where}{number}", record
        elif file.suffix == ".parquet":
            where = f"{file}, row "
            for number, record in read_parquet(file, what, _COLUMNS):
                yield f"{where}{number}", record
        elif file.suffix == ".tsv" and what == _QRELS:
            yield from _tsv(file)
        else:
            raise BeirHybridError(f"{file}: neither JSON lines (.jsonl, .jsonl.gz) nor Parquet; expected {what}.")


def _tsv(path: Path) -> _Records:
    number = 0
    begun = False
    try:
        with open(path, "rb") as stream:
            while line := stream.readline(_LINE + 1):
                number += 1
                where = f"{path}, line {number}"
                if len(line) > _LINE:
                    raise BeirHybridError(
                        f"{where}: longer than {_LINE} bytes; expected a question, a passage, a grade."
                    )
                text = line.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
                if not text.strip():
                    continue
                query, passage, grade = _fields(text, where)
                header = not begun and query.lower() in {*_QUERY, "query", "qid"} and not _WHOLE.match(grade.strip())
                begun = True
                if not header:
                    yield where, {_QUERY[0]: query, _CORPUS[0]: passage, "score": grade.strip()}
    except UnicodeDecodeError as error:
        raise BeirHybridError(f"{path}, line {number}: not UTF-8 at byte {error.start + 1} of the line.") from None
    except OSError as error:
        raise BeirHybridError(f"{path}: cannot be read ({error.strerror}).") from None


def _fields(line: str, where: str) -> tuple[str, str, str]:
    """Question, passage and grade: three columns as BEIR has them, or four as TREC has them."""
    fields = line.split("\t") if "\t" in line else line.split()
    if '"' in line and "\t" in line:  # BEIR reads and writes quotes as a spreadsheet does
        try:
            fields = next(csv.reader([line], delimiter="\t", strict=True))
        except csv.Error as error:
            raise BeirHybridError(f"{where}: a quotation mark in the wrong place ({error}).") from None
    if len(fields) == 4:
        return fields[0], fields[2], fields[3]
    if len(fields) == 3 and "\t" in line:
        return fields[0], fields[1], fields[2]
    raise BeirHybridError(
        f"{where}: {len(fields)} columns; expected question, passage and grade between tabs, or TREC's four columns."
    )


def _kinds(pool: tuple[str, ...], asking: set[str]) -> tuple[Kind, ...]:
    """The kinds of setting there may be. A pool of one language has no `multi`: that would be the same search again."""
    if len(pool) > 1:
        return KINDS
    found: set[Kind] = {"blend" if "+" in code else "mono" if code in pool else "cross" for code in asking}
    return tuple(kind for kind in KINDS if kind in found)


def _passages(files: tuple[Path, ...], language: str, codes: dict[str, int]) -> Texts:
    """The passages, in memory or on disk; `codes` is given the number of each of their languages."""

    def rows() -> Iterator[tuple[str, _Passage]]:
        for where, record in _records(files, _PASSAGES):
            identifier, title = id_field(record, ("_id", "id"), where), text_field(record, "title", where, default="")
            text = text_field(record, "text", where, default="" if title else None)
            yield where, (identifier, title, text, _language(record, language, _PASSAGE_LANGUAGE, where))

    states = [(file.resolve(), file.stat()) for file in files]
    if sum(state.st_size for _, state in states) > IN_MEMORY:
        from beir_hybrid.collections.storage.stored import Row, open_or_build  # imports pyarrow

        key = repr(
            [(str(path), state.st_size, state.st_mtime_ns, state.st_ctime_ns) for path, state in states] + [language]
        )
        folder = cache_root() / "texts" / hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()[:32]
        stored = open_or_build(folder, lambda: (Row(*row) for _, row in rows()), str(files[0]))
        for code in stored.languages:
            _number(codes, code, str(files[0]))
        titles = stored.titles if any(stored.titles) else None
        return Texts(stored.ids, stored.texts, stored.language, titles, (stored.row_of,), stored.digest)
    return _in_memory(rows(), codes)


def _in_memory(rows: Iterable[tuple[str, _Passage]], codes: dict[str, int]) -> Texts:
    index: dict[str, int] = {}
    titles: list[str] = []
    texts: list[str] = []
    numbers: list[int] = []
    state = hashlib.sha256()  # of the same bytes as a store's digest
    for where, row in rows:
        identifier, title, text, code = row
        if index.setdefault(identifier, len(texts)) != len(texts):
            raise BeirHybridError(f"{where}: the id {identifier!r} is used twice; each passage needs an id of its own.")
        titles.append(title)
        texts.append(text)
        numbers.append(_number(codes, code, where))
        for part in row:
            encoded = part.encode()
            state.update(len(encoded).to_bytes(4, "little") + encoded)
    return Texts(
        tuple(index),
        tuple(texts),
        np.array(numbers, dtype=np.int16),
        tuple(titles) if any(titles) else None,
        (index,),
        state.hexdigest(),
    )


def _queries(
    files: tuple[Path, ...], language: str, codes: dict[str, int], judged: Mapping[str, str]
) -> tuple[Texts, list[str]]:
    """The questions that are judged, and the parallel item of each."""
    seen: set[str] = set()
    ids: list[str] = []
    texts: list[str] = []
    numbers: list[int] = []
    items: list[str] = []
    for where, record in _records(files, _QUESTIONS):
        identifier, text = id_field(record, ("_id", "id"), where), text_field(record, "text", where)
        if identifier in seen:
            raise BeirHybridError(
                f"{where}: the id {identifier!r} is used twice; each question needs an id of its own."
            )
        seen.add(identifier)
        if identifier not in judged:
            continue
        check_question(identifier, text, where)
        code = _language(record, language, _QUERY_LANGUAGE, where)
        item = _also(record, "item")
        ids.append(identifier)
        texts.append(text)
        numbers.append(_number(codes, code, where))
        items.append(f"{code}:{identifier}" if item is None else id_field({"item": item}, ("item",), where))
    return Texts(tuple(ids), tuple(texts), np.array(numbers, dtype=np.int16)), items


def _judged(record: dict[str, Any], where: str) -> _Judged:
    grade = record.get("score")
    if isinstance(grade, float) and grade.is_integer():
        grade = int(grade)
    elif isinstance(grade, str) and (found := _WHOLE.match(grade)):
        grade = int(found[1])
    if not isinstance(grade, int) or isinstance(grade, bool) or abs(grade) > np.iinfo(np.int16).max:
        raise BeirHybridError(
            f"{where}: the grade (score) is {str(record.get('score'))[:80]!r}; expected a whole number, as in 1."
        )
    return _Judged(id_field(record, _QUERY, where), id_field(record, _CORPUS, where), grade, where)


def _language(record: dict[str, Any], default: str, pattern: re.Pattern[str], where: str) -> str:
    code = _also(record, "language")
    return default if code is None or code == "" else _code(code, pattern, where)


def _also(record: dict[str, Any], key: str) -> Any:
    """What is in the row or in its metadata; None where it is in neither."""
    found, metadata = record.get(key), record.get("metadata")
    return metadata.get(key) if found is None and isinstance(metadata, dict) else found


def _code(code: Any, pattern: re.Pattern[str], where: str) -> str:
    if not isinstance(code, str) or not pattern.match(code):
        raise BeirHybridError(
            f"{where}: the language is {str(code)[:80]!r}; expected a code as in en or zh-Hans, which can be part of a "
            "setting's name."
        )
    return code


def _number(codes: dict[str, int], code: str, where: str) -> int:
    number = codes.setdefault(code, len(codes))
    if number > np.iinfo(np.int16).max:
        raise BeirHybridError(f"{where}: more than {number} languages; is the field right?")
    return number
