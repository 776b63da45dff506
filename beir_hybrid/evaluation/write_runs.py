"""The rankings behind the figures, as TREC runs: one a setting."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from beir_hybrid.collections.collection import MultilingualCollection, Setting
from beir_hybrid.collections.lazy import take
from beir_hybrid.evaluation.from_runs import run_name
from beir_hybrid.evaluation.text_vectors import SomeVectors, TextVectors
from beir_hybrid.files import check_writable
from beir_hybrid.retrieval.runs import Run
from beir_hybrid.retrieval.search import top_k

DEPTH = 1000


def write_runs(
    query_vectors: TextVectors,
    passage_vectors: TextVectors,
    collection: MultilingualCollection,
    settings: Iterable[Setting],
    folder: Path | str,
    *,
    depth: int = DEPTH,
    tag: str = "beir_hybrid",
) -> list[Path]:
    """Write a run for each setting, `xquad-r.cross.en-de.trec.gz`, each whole or not at all; return their paths.

    Args:
        query_vectors, passage_vectors: Of all of the collection's texts, in its order; scores are inner products.
        depth: Passages for each question.
        tag: The last column of the runs.

    Raises:
        BeirHybridError: as `top_k` and `Run.write`.
    """
    folder = Path(folder)
    check_writable(folder / "run")
    folder.mkdir(parents=True, exist_ok=True)
    own = collection.own_passages
    written = []
    for setting in settings:
        view = collection.view(setting)
        ids = take(collection.passages.ids, view.passage_rows)
        # One more where a question must not find itself.
        scores, found = top_k(
            query_vectors[view.query_rows],
            SomeVectors(passage_vectors, view.passage_rows),
            depth + (own is not None),
            ids,
        )
        queries = np.broadcast_to(view.query_rows[:, None], found.shape)
        passages = view.passage_rows[found]
        kept = np.ones(found.shape, dtype=bool)
        if own is not None:
            kept = passages != own[view.query_rows][:, None]
            kept &= np.cumsum(kept, axis=1) <= depth
        run = Run.of(view, queries[kept], passages[kept], scores[kept])
        path = folder / f"{run_name(setting)}.trec.gz"
        run.write(path, "_".join(tag.split()) or "beir_hybrid")
        written.append(path)
    return written
