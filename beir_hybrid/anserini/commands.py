"""Pyserini's command lines for an exported folder, as they are typed within it.

Within it, because Pyserini guesses from the letters of a path what is in a file: relative paths hold none but ours.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence

SEARCH, EVALUATE = "pyserini.search.faiss", "pyserini.eval.trec_eval"
DEPTH = 1000
_BATCH, _THREADS = 128, 4
MEASURES = {"map": "AP", "ndcg_cut_10": "nDCG@10", "recall_10": "R@10", "recall_100": "R@100"}
"""What trec_eval calls a measure, and what we do."""
_MEASURES = ("-m", "map", "-m", "ndcg_cut.10", "-m", "recall.10,100")


def search_arguments(
    file: str, flags: Sequence[str] = (), *, run: str | None = None, topics: str | None = None, hits: int = DEPTH
) -> list[str]:
    """Of `python -m pyserini.search.faiss`.

    Args:
        file: What a setting is called in file names.
        flags: For Pyserini's own encoding of the queries; without them the encoded ones are taken.
        run: The file to write, by default `runs/FILE.txt`.
        topics: Other topics than the setting's.
    """
    queries = list(flags) or ["--encoded-queries", f"queries/{file}"]
    run, topics = run or f"runs/{file}.txt", topics or f"topics/{file}.tsv"
    # In batches, since one by one Pyserini searches on one thread.
    batches = ["--batch-size", str(_BATCH), "--threads", str(_THREADS)]
    return ["--index", ".", "--topics", topics, *queries, "--output", run, "--hits", str(hits), *batches]


def evaluate_arguments(file: str, *, run: str | None = None, per_question: bool = False) -> list[str]:
    """Of `python -m pyserini.eval.trec_eval`."""
    questions = ["-q"] if per_question else []
    return ["-c", *questions, *_MEASURES, f"qrels/{file}.txt", run or f"runs/{file}.txt"]


def as_typed(module: str, arguments: Iterable[str]) -> str:
    """As a line of a shell."""
    return f"python -m {module} {shlex.join(arguments)}"
