"""MIRACL: questions and Wikipedia passages in 18 languages, each language on its own.

Read from a folder in the official layout (`miracl_files.py`), or else through ir_datasets, which downloads what is
missing. The passages of a language are stored on disk once and read from there: English has 33 million.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import re
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from beir_hybrid.collections.builder import Judgement, judged_collection
from beir_hybrid.collections.collection import CollectionInfo, MultilingualCollection
from beir_hybrid.collections.lazy import Chain, Offset
from beir_hybrid.collections.readers.miracl_files import (
    LAYOUT,
    Qrel,
    Source,
    Topic,
    checked,
    judged,
    official,
    shortened,
    spelled,
    splits,
)
from beir_hybrid.collections.spec import CollectionSpec, Request
from beir_hybrid.collections.texts import Texts
from beir_hybrid.errors import BeirHybridError, library_errors, unknown
from beir_hybrid.files import cache_root, offline

if TYPE_CHECKING:
    from beir_hybrid.collections.storage.stored import Row, StoredTexts

CITATION = (
    "Zhang, Thakur, Ogundepo, Kamalloo, Alfonso-Hermelo, Li, Liu, Rezagholizadeh, Lin 2023: MIRACL: A Multilingual "
    "Retrieval Dataset Covering 18 Diverse Languages, TACL 11"
)
_BY_HAND = f"Or have MIRACL in a folder miracl/ and name what that is in with --data-dir; expected {LAYOUT}."
INFO = CollectionInfo("Apache-2.0", CITATION, "https://huggingface.co/datasets/miracl")


def of_ir_datasets(dataset: str, language: str) -> Source:
    """One language from the dataset called `dataset` in ir_datasets, which downloads what it lacks.

    Raises:
        BeirHybridError: ir_datasets cannot read it.
    """
    with library_errors(f"ir_datasets cannot read {dataset}", _BY_HAND):
        import ir_datasets

        data = ir_datasets.load(dataset)
        place = f"ir_datasets {dataset}"
        topics = [
            Topic(query.query_id, query.text, f"{place}, topic {number}")
            for number, query in enumerate(data.queries_iter(), 1)
        ]
        qrels = [
            Qrel(qrel.query_id, qrel.doc_id, qrel.relevance, f"{place}, judgement {number}")
            for number, qrel in enumerate(data.qrels_iter() if data.has_qrels() else (), 1)
        ]
        identity = _ir_datasets_identity(data.docs_namespace() or dataset)
    return Source(language, checked(topics, place), qrels, identity, partial(_rows, data, dataset, language))


def collection_of(
    name: str, sources: Sequence[Source], info: CollectionInfo, *, allow_missing: bool = False
) -> MultilingualCollection:
    """The collection of some languages. Passages that are not on disk yet are stored there first.

    Raises:
        BeirHybridError: passages that cannot be read or stored; judgements of a topic or a passage that is not there.
    """
    languages = tuple(source.language for source in sources)
    topics = [topic for source in sources for topic in source.topics]
    numbers = np.repeat(np.arange(len(sources), dtype=np.int16), [len(source.topics) for source in sources])
    queries = Texts(tuple(topic.id for topic in topics), tuple(topic.text for topic in topics), numbers)
    judgements = _judgements(sources)
    passages = _passages([_stored(source) for source in sources])
    return judged_collection(
        name, languages, queries, passages, judgements, info, kinds=("mono",), allow_missing=allow_missing
    )


def local_spec(folder: Path, split: str | None = None) -> CollectionSpec:
    """The declaration of a folder in the official layout, under the folder's name and the split's.

    It has the languages that have both passages and questions of the split there.

    Args:
        split: By default `dev`, or the only one.

    Raises:
        BeirHybridError: no language has both; no such split; several splits and none is `dev`.
    """
    found = splits(folder)
    if not found:
        raise BeirHybridError(f"{folder}: no language has passages and questions here; expected {LAYOUT}.")
    if split is None:
        if "dev" not in found and len(found) > 1:
            raise BeirHybridError(f"{folder}: say which split is meant; there are {', '.join(found)}.")
        split = "dev" if "dev" in found else next(iter(found))
    split = spelled(split)
    if split not in found:
        raise unknown(f"split of {folder}:", split, found)

    def read(request: Request) -> MultilingualCollection:
        sources = [official(folder, language, split) for language in request.languages]
        return collection_of(request.name, sources, info, allow_missing=request.partial)

    info = CollectionInfo("not stated in the folder (MIRACL itself: Apache-2.0)", CITATION, str(folder))
    stem = re.sub(r"[^A-Za-z0-9_-]+", "-", folder.resolve().name).strip("-_") or "miracl"
    return CollectionSpec(
        name=f"{stem}-{split}",
        title=f"{folder}, {split}: a folder in the layout of MIRACL",
        languages=tuple(found[split]),
        info=info,
        read=read,
        kinds=("mono",),
        may_lack_passages=True,
        layout=LAYOUT,
        judged=any(judged(folder, language, split) for language in found[split]),
        is_here=lambda: True,
    )


def _rows(data: Any, dataset: str, language: str) -> Iterator[Row]:
    from tqdm.auto import tqdm

    from beir_hybrid.collections.storage.stored import Row

    total = _COUNTS[language].passages if language in _COUNTS else None
    with (
        library_errors(f"ir_datasets cannot read {dataset}", _BY_HAND),
        tqdm(desc=f"MIRACL {language}", total=total, unit_scale=True, delay=3, disable=None) as progress,
    ):
        for document in data.docs_iter():
            yield Row(document.doc_id, getattr(document, "title", ""), document.text, language)
            progress.update()


def _judgements(sources: Sequence[Source]) -> list[Judgement]:
    found, before = [], 0
    for source in sources:
        rows = {topic.id: before + row for row, topic in enumerate(source.topics)}
        for topic, passage, grade, where in source.qrels:
            if topic not in rows:
                raise BeirHybridError(
                    f"{where}: {shortened(topic)!r} is not among the {len(rows):,} topics in {source.language!r}; "
                    "topics and qrels must be of one split and version."
                )
            found.append(Judgement(rows[topic], passage, grade, where))
        before += len(rows)
    return found


def _passages(stores: Sequence[StoredTexts]) -> Texts:
    """The passages of all languages, one after the other; each language has an index of its own."""
    if len(stores) == 1:
        (one,) = stores
        return Texts(one.ids, one.texts, one.language, one.titles, (one.row_of,), one.digest)
    lengths = [len(store) for store in stores]
    starts = np.cumsum([0, *lengths]).tolist()
    return Texts(
        Chain([store.ids for store in stores]),
        Chain([store.texts for store in stores]),
        np.repeat(np.arange(len(stores), dtype=np.int16), lengths),
        Chain([store.titles for store in stores]),
        [Offset(store.row_of, start) for store, start in zip(stores, starts, strict=False)],
        hashlib.sha256(b"".join(bytes.fromhex(store.digest) for store in stores)).hexdigest(),
    )


def _stored(source: Source) -> StoredTexts:
    from beir_hybrid.collections.storage.stored import open_or_build

    folder = _store(source.language, source.identity)
    return open_or_build(folder, source.rows, f"the passages of MIRACL in {source.language!r}")


def _store(language: str, identity: tuple[object, ...]) -> Path:
    digest = hashlib.sha256(repr(identity).encode("utf-8", "backslashreplace")).hexdigest()
    return cache_root() / "texts" / f"miracl-{language}-{digest[:24]}"


def _ir_datasets_home(language: str) -> Path:
    return Path(os.environ.get("IR_DATASETS_HOME", Path.home() / ".ir_datasets")) / "miracl" / "v1.0" / language


def _ir_datasets_identity(corpus: str) -> tuple[object, ...]:
    """What a store of its passages is named after; the files' times too, for they may have been put there by hand."""
    files = sorted((_ir_datasets_home(corpus.rpartition("/")[2]) / "docs").glob("docs-*"))
    states = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in files]
    return "ir_datasets", corpus, importlib.metadata.version("ir-datasets"), *states


def _ir_datasets_lacks(language: str, split: str) -> list[Path]:
    """Which of its files ir_datasets would have to download; it is not imported, as that makes folders."""
    home = _ir_datasets_home(language)
    files = [home / split / "topics.tsv"] + [home / split / "qrels.tsv"] * (not split.startswith("test"))
    if not _store(language, _ir_datasets_identity(f"miracl/{language}")).is_dir():
        # The only file of Yoruba is docs-1 there, though docs-0 at the publisher.
        numbers = range(1, 2) if language == "yo" else range(_COUNTS[language].files)
        files += [home / "docs" / f"docs-{number}.jsonl.gz" for number in numbers]
    return [path for path in files if not path.is_file()]


class _Counts(NamedTuple):
    passages: int
    files: int
    size: int
    questions: dict[str, int]


def _counts(table: str) -> dict[str, _Counts]:
    found = {}
    for language, passages, files, size, *questions in map(str.split, table.strip().splitlines()):
        asked = {split: int(one) for split, one in zip(SPLITS, questions, strict=True) if one != "-"}
        found[language] = _Counts(int(passages), int(files), int(size), asked)
    return found


SPLITS = ("dev", "train", "test-a", "test-b")
# Passages; their files and bytes; questions of each split. As ir_datasets 0.6.3 has them: its bytes for Yoruba are some
# megabytes too few.
_COUNTS = _counts("""
    ar 2061414 5 319972345 2896 3495 936 1405
    bn 297265 1 59713182 411 1631 102 1130
    de 15866222 32 2629280857 305 - - 712
    en 32893221 66 5060264106 799 2863 734 1790
    es 10373953 21 1595387939 648 2162 - 1515
    fa 2207172 5 269762830 632 2107 - 1476
    fi 1883509 4 270046134 1271 2897 1060 711
    fr 14636953 30 1911100927 343 1143 - 801
    hi 506264 2 96812097 350 1169 - 819
    id 1446315 3 169583618 960 4071 731 611
    ja 6953614 14 1065120400 860 3477 650 1141
    ko 1486752 3 225970548 213 868 263 1417
    ru 9543918 20 1575287888 1252 4683 911 718
    sw 131924 1 10199394 482 1901 638 465
    te 518079 2 72312363 828 3452 594 793
    th 542166 2 109637414 733 2972 992 650
    yo 49043 1 10946 119 - - 288
    zh 4934368 10 733255826 393 1312 - 920
""")


def _spec(split: str) -> CollectionSpec:
    """The declaration of a split in all languages that have it."""
    counts = {code: count for code, count in _COUNTS.items() if split in count.questions}

    def read(request: Request) -> MultilingualCollection:
        if request.folder is None and offline():
            _refuse_offline(split, request.languages)
        sources = [
            official(request.folder, code, split) if request.folder else of_ir_datasets(f"miracl/{code}/{split}", code)
            for code in request.languages
        ]
        found = collection_of(request.name, sources, INFO, allow_missing=request.partial)
        if not request.partial:
            _check_counts(found, split)
        return found

    return CollectionSpec(
        name=f"miracl-{split}",
        title=f"MIRACL, {split}: questions and Wikipedia passages, {len(counts)} languages, each on its own",
        languages=tuple(counts),
        info=INFO,
        read=read,
        questions=sum(count.questions[split] for count in counts.values()),
        passages=sum(count.passages for count in counts.values()),
        kinds=("mono",),
        may_lack_passages=True,
        folder="miracl",
        layout=LAYOUT,
        judged=not split.startswith("test"),
        download=sum(count.size for count in counts.values()),
        is_here=lambda: not any(_ir_datasets_lacks(code, split) for code in counts),
    )


def _check_counts(collection: MultilingualCollection, split: str) -> None:
    """Refuse a part of MIRACL that goes by the name of all: its figures would not be MIRACL's."""
    for number, code in enumerate(collection.languages):
        for what, texts, expected in (
            ("passages", collection.passages, _COUNTS[code].passages),
            ("questions", collection.queries, _COUNTS[code].questions[split]),
        ):
            if (there := len(texts.rows_of(number))) != expected:
                raise BeirHybridError(
                    f"{collection.name}: {there:,} {what} in {code!r} where MIRACL has {expected:,}. A part of it is "
                    f"read by its path, under a name of its own (./my-folder), or as miracl-{split}.partial."
                )


def _refuse_offline(split: str, languages: Sequence[str]) -> None:
    if lacks := [path for code in languages for path in _ir_datasets_lacks(code, split)]:
        raise BeirHybridError(
            f"offline, and {len(lacks)} files of miracl-{split} are not on this machine: {lacks[0]}"
            f"{', ...' if lacks[1:] else ''}. Put them where ir_datasets looks for them, which is there. {_BY_HAND}"
        )


SPECS: tuple[CollectionSpec, ...] = tuple(_spec(split) for split in SPLITS)
