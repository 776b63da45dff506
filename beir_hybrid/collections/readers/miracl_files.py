"""The official layout of MIRACL: passages in JSON lines, questions and judgements in columns.

miracl-corpus-v1.0-sw/docs-0.jsonl.gz                    passages: docid, title, text; then docs-1 and so on
miracl-v1.0-sw/topics/topics.miracl-v1.0-sw-dev.tsv      questions: id, tab, text
miracl-v1.0-sw/qrels/qrels.miracl-v1.0-sw-dev.tsv        judgements, as in TREC: id, Q0, docid, grade
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from beir_hybrid.collections.storage.jsonl import id_field, read_jsonl, text_field
from beir_hybrid.errors import BeirHybridError

if TYPE_CHECKING:
    from beir_hybrid.collections.storage.stored import Row

LAYOUT = (
    "miracl-corpus-v1.0-LANG/docs-0.jsonl.gz, miracl-v1.0-LANG/topics/topics.miracl-v1.0-LANG-SPLIT.tsv and "
    "miracl-v1.0-LANG/qrels/qrels.miracl-v1.0-LANG-SPLIT.tsv"
)
_SPELLINGS = {"test-a": ("test-a", "testA"), "test-b": ("test-b", "testB")}
_DOCS = re.compile(r"docs-(0|[1-9][0-9]{0,5})\.jsonl(\.gz)?\Z")
_LANGUAGE = re.compile(r"miracl-v1\.0-([A-Za-z][A-Za-z0-9_-]*)\Z")
_GRADE = re.compile(r"-?[0-9]{1,4}\Z")


class Topic(NamedTuple):
    """A question, and where it stands."""

    id: str
    text: str
    where: str


class Qrel(NamedTuple):
    """How relevant a passage is to a question, and where that stands."""

    topic: str
    passage: str
    grade: int
    where: str


class Source(NamedTuple):
    """One language, and where it comes from.

    Attributes:
        identity: Tells these passages from others without reading them.
        rows: Reads the passages.
    """

    language: str
    topics: Sequence[Topic]
    qrels: Sequence[Qrel]
    identity: tuple[object, ...]
    rows: Callable[[], Iterable[Row]]


def read_topics(path: Path) -> list[Topic]:
    """The questions in a file of two columns: id, tab, text.

    Raises:
        BeirHybridError: the file is missing, empty or not UTF-8; a line has no tab, no id or no text; an id is used
            twice.
    """
    what = "topics: an id, a tab and the question in each line"
    topics = []
    for where, line in _lines(path, what):
        identifier, tab, text = line.partition("\t")
        if not tab or identifier.split() != [identifier]:
            raise BeirHybridError(f"{where}: {shortened(line)!r} has no tab, or no id before it; expected {what}.")
        topics.append(Topic(identifier, text, where))
    return checked(topics, str(path))


def read_qrels(path: Path) -> list[Qrel]:
    """The judgements in a file of TREC's four columns: topic, Q0, docid, grade.

    Raises:
        BeirHybridError: the file is missing or not UTF-8; a line has not four columns, or its grade is no whole number.
    """
    what = "qrels: topic, Q0, docid and grade in each line"
    found = []
    for where, line in _lines(path, what):
        columns = line.split()
        if len(columns) != 4:
            raise BeirHybridError(f"{where}: {len(columns)} columns in {shortened(line)!r}; expected {what}.")
        topic, _, passage, grade = columns
        if not _GRADE.match(grade):
            raise BeirHybridError(
                f"{where}: the grade is {shortened(grade)!r}; expected a whole number such as 0 or 1."
            )
        found.append(Qrel(topic, passage, int(grade), where))
    return found


def checked(topics: list[Topic], place: str) -> list[Topic]:
    """The topics as they are.

    Raises:
        BeirHybridError: there are none, one has no text, or an id is used twice.
    """
    first: dict[str, str] = {}
    for topic in topics:
        if not topic.text.strip():
            raise BeirHybridError(f"{topic.where}: topic {shortened(topic.id)!r} has no text; expected a question.")
        if first.setdefault(topic.id, topic.where) != topic.where:
            raise BeirHybridError(
                f"{topic.where}: the topic id {shortened(topic.id)!r} is used twice (first at {first[topic.id]})."
            )
    if not topics:
        raise BeirHybridError(f"{place}: no topics at all; expected at least one.")
    return topics


def shortened(text: str, length: int = 80) -> str:
    """The text, cut where it is too long for an error."""
    return text if len(text) <= length else f"{text[:length]}..."


def official(folder: Path, language: str, split: str) -> Source:
    """One language of a folder in the official layout. A split called `test...` needs no judgements.

    Raises:
        BeirHybridError: a file is missing or broken; says the place.
    """
    topics = read_topics(_table(folder, "topics", language, split))
    kept_back = split.startswith("test") and not judged(folder, language, split)
    qrels = [] if kept_back else read_qrels(_table(folder, "qrels", language, split))
    files = _corpus(folder, language)
    identity = ("official", language, *((str(path.resolve()), size, time) for path, size, time in files))
    return Source(language, topics, qrels, identity, partial(_rows, files, language))


def judged(folder: Path, language: str, split: str) -> bool:
    """Whether there is a file of judgements."""
    return _table(folder, "qrels", language, split).is_file()


def spelled(split: str) -> str:
    """The split's name here: the archives say testA as well as test-a."""
    return next((name for name, spellings in _SPELLINGS.items() if split in spellings), split)


def splits(folder: Path) -> dict[str, list[str]]:
    """Split -> languages that have passages and questions of it in the folder.

    Raises:
        BeirHybridError: the folder cannot be read.
    """
    found: dict[str, list[str]] = {}
    for entry in _listed(folder):
        match = _LANGUAGE.match(entry.name)
        if not match or not (folder / f"miracl-corpus-v1.0-{match[1]}").is_dir() or not (entry / "topics").is_dir():
            continue
        for path in _listed(entry / "topics"):
            split = path.name.removeprefix(f"topics.{entry.name}-").removesuffix(".tsv")
            if path.name == f"topics.{entry.name}-{split}.tsv" and re.fullmatch(r"[A-Za-z0-9_-]+", split):
                found.setdefault(spelled(split), []).append(match[1])
    return {split: sorted(set(languages)) for split, languages in sorted(found.items())}


def _listed(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError as error:
        raise BeirHybridError(f"{folder}: cannot be read ({error.strerror}); expected {LAYOUT}.") from None


def _table(folder: Path, kind: str, language: str, split: str) -> Path:
    """The file of topics or qrels; where there is none, the one that is expected."""
    stem = f"{kind}.miracl-v1.0-{language}"
    paths = [folder / f"miracl-v1.0-{language}" / kind / f"{stem}-{one}.tsv" for one in _SPELLINGS.get(split, (split,))]
    return next((path for path in paths if path.is_file()), paths[0])


def _corpus(folder: Path, language: str) -> list[tuple[Path, int, int]]:
    """The files with the passages in the order of their numbers, each with its size and when it was changed."""
    home = folder / f"miracl-corpus-v1.0-{language}"
    found: dict[int, Path] = {}
    for path in _listed(home) if home.is_dir() else ():
        match = _DOCS.match(path.name)
        if match and found.setdefault(int(match[1]), path) != path:
            raise BeirHybridError(f"{path}: beside {found[int(match[1])].name}; keep one of the two.")
    for number in range(max(found, default=0) + 1):
        if number not in found:
            what = f"docs-{number}.jsonl.gz" if found else "docs-0.jsonl.gz, docs-1.jsonl.gz and so on"
            raise BeirHybridError(
                f"{home}: no {what} here, the passages of MIRACL in {language!r}. Get them from "
                f"https://huggingface.co/datasets/miracl/miracl-corpus (folder {home.name})."
            )
    try:
        stats = [(found[number], found[number].stat()) for number in sorted(found)]
    except OSError as error:
        raise BeirHybridError(f"{error.filename}: cannot be read ({error.strerror}).") from None
    return [(path, stat.st_size, stat.st_mtime_ns) for path, stat in stats]


def _rows(files: Sequence[tuple[Path, int, int]], language: str) -> Iterator[Row]:
    from tqdm.auto import tqdm

    from beir_hybrid.collections.storage.stored import Row

    what = "passages of MIRACL, one JSON object with docid, title and text in each line"
    total = sum(size for _, size, _ in files)
    with tqdm(desc=f"MIRACL {language}", total=total, unit="B", unit_scale=True, delay=3, disable=None) as progress:
        for path, size, _ in files:
            place = f"{path}, line "
            for number, record in read_jsonl(path, what):
                where = f"{place}{number}"
                title = text_field(record, "title", where, default="")
                yield Row(id_field(record, ("docid",), where), title, text_field(record, "text", where), language)
            progress.update(size)


def _lines(path: Path, what: str) -> Iterator[tuple[str, str]]:
    """The lines that are not blank, each after its place."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise BeirHybridError(f"{path}: no such file; expected {what}.") from None
    except OSError as error:
        raise BeirHybridError(f"{path}: cannot be read ({error.strerror}); expected {what}.") from None
    for number, line in enumerate(content.removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1):
        where = f"{path}, line {number}"
        try:
            text = line.decode("utf-8").removesuffix("\r")
        except UnicodeDecodeError as error:
            raise BeirHybridError(f"{where}: not UTF-8 at byte {error.start + 1}; expected {what}.") from None
        if text.strip():
            yield where, text
