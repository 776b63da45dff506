"""Every setting of XQuAD-R: this package's grid beside BEIR's loop over the settings, in turn in one process.

    python benchmarks/grid.py [--data-dir DIR] [--threads N] [--share N] [--quick]

The bundled encoder with the same prompts. The grid is run whole, in the precision that the machine takes, and its time
is told beside that of the encoding in it; with --quick its encoding is timed on a share of the texts and scaled, and
the settings are read out of random vectors of all texts. BEIR's loop (SentenceBERT, DenseRetrievalExactSearch,
EvaluateRetrieval, as BEIR's examples have them, in float32) is timed in one mono, one cross and one multi setting on a
share of their texts (every Nth; of multi, and for this package's float32, every 4 Nth), scaled by the texts that are
left, then by how many settings there are of each kind. Its search, which grows with the square, is scaled as if it did
not. Time is that of the processor with one thread, which neighbours on the machine disturb least, else the clock's.
"""

from __future__ import annotations

import argparse
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from beir_hybrid.collections.collection import MultilingualCollection, Setting
from beir_hybrid.collections.registry import load_collection
from beir_hybrid.encoders.dense import DenseEncoder
from beir_hybrid.evaluation.grid import evaluate_grid, grid_from_embeddings

SHARED = Path(__file__).parents[2] / "shared" / "data" / "lareqa"
SAMPLE = {"mono": "mono/en", "cross": "cross/en-de", "multi": "multi/en"}
OF_ENCODING, TIMES, TIMES_BF16 = 1.10, 15, 40


class Clock:
    """Seconds of the processor with one thread, else of the clock."""

    def __init__(self) -> None:
        self._now = time.process_time if torch.get_num_threads() == 1 else time.perf_counter

    def seconds(self, do: Callable[[], object]) -> float:
        started = self._now()
        do()
        return self._now() - started


class Timed:
    """An encoder that knows how long it took."""

    score_function = DenseEncoder.score_function

    def __init__(self, encoder: DenseEncoder, clock: Clock) -> None:
        self._encoder, self._clock = encoder, clock
        self.seconds, self.texts = 0.0, 0

    def encode_queries(self, queries: list[str], **kwargs: Any) -> Any:
        return self._timed(self._encoder.encode_queries, queries)

    def encode_corpus(self, corpus: list[dict[str, str]], **kwargs: Any) -> Any:
        return self._timed(self._encoder.encode_corpus, corpus)

    def _timed(self, encode: Callable[[Any], Any], texts: Any) -> Any:
        found: list[Any] = []
        self.seconds += self._clock.seconds(lambda: found.append(encode(texts)))
        self.texts += len(texts)
        return found[0]


def beir_seconds(
    encoder: DenseEncoder, data: MultilingualCollection, setting: Setting, share: int, clock: Clock
) -> float:
    """How long BEIR takes for a setting, from a share of its texts."""
    from beir.retrieval.evaluation import EvaluateRetrieval
    from beir.retrieval.models import SentenceBERT
    from beir.retrieval.search.dense import DenseRetrievalExactSearch

    model = SentenceBERT()
    model.q_model = model.doc_model = encoder.model
    model.query_prompt_name, model.doc_prompt_name = "query", "passage"
    view = data.view(setting)
    queries = dict(list(view.queries.items())[::share])
    corpus = dict(list(view.corpus.items())[::share])
    qrels = {query: dict(view.qrels[query]) for query in queries}

    def run() -> None:
        retriever = EvaluateRetrieval(
            DenseRetrievalExactSearch(model, show_progress_bar=False), score_function="cos_sim"
        )
        results = retriever.retrieve(corpus, queries)
        retriever.evaluate(qrels, results, retriever.k_values)

    taken = clock.seconds(run)
    return taken * (len(view.query_rows) + len(view.passage_rows)) / (len(queries) + len(corpus))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, default=SHARED)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--share", type=int, default=4)
    parser.add_argument("--quick", action="store_true")
    given = parser.parse_args()
    if not (given.data_dir / "xquad-r").is_dir():
        print(f"no XQuAD-R in {given.data_dir}: nothing measured.")
        return
    logging.disable(logging.WARNING)
    torch.set_num_threads(given.threads)
    clock, share = Clock(), given.share
    data = load_collection("xquad-r", data_dir=given.data_dir)
    encoder = DenseEncoder("bundled:multilingual-e5-small", device="cpu", progress=False)
    kinds = {kind: [one for one in data.settings if one.kind == kind] for kind in SAMPLE}

    beir = 0.0
    for kind, name in SAMPLE.items():
        every = share * (4 if kind == "multi" else 1)
        one = beir_seconds(encoder, data, data.setting(name), every, clock)
        beir += one * len(kinds[kind])
        print(f"BEIR: {name} {one:8.1f} s, scaled from every {every}th text; {len(kinds[kind])} settings", flush=True)
    print(f"BEIR: {sum(map(len, kinds.values()))} settings {beir:8.1f} s", flush=True)

    questions, passages = data.queries.texts[:: 4 * share], list(data.passages.full_texts)[:: 4 * share]
    texts = len(data.queries) + len(data.passages)

    def encoding(precision: str) -> float:
        def encode() -> None:
            encoder.encode(questions, "query", precision=precision)
            encoder.encode(passages, "passage", precision=precision)

        return clock.seconds(encode) * texts / (len(questions) + len(passages))

    print(f"precision: {encoder.settle_precision(passages, 'passage')}, {encoder.precision_probe}", flush=True)
    float32 = encoding("float32")
    if given.quick:
        random = np.random.default_rng(0)
        asked, found = (
            random.standard_normal((len(one), 384)).astype(np.float32) for one in (data.queries, data.passages)
        )
        encoded = encoding(encoder.precision)
        reading = clock.seconds(lambda: grid_from_embeddings(asked, found, data))
    else:
        timed = Timed(encoder, clock)
        whole = clock.seconds(lambda: evaluate_grid(timed, data, progress=False))
        encoded, reading = timed.seconds, whole - timed.seconds
    print(
        f"grid, {encoder.precision}: {encoded:.1f} s to encode {texts:,} texts, {reading:.1f} s to read out all", end=""
    )
    print(f" settings: {1 + reading / encoded:.3f} of encoding (at most {OF_ENCODING:.2f})")
    print(f"grid, float32: {float32 + reading:.1f} s, its encoding scaled from every {4 * share}th text")
    print(f"BEIR's loop takes {beir / (float32 + reading):.1f} times that (at least {TIMES}), and", end="")
    print(f" {beir / (encoded + reading):.1f} times the grid in {encoder.precision} (bf16: at least {TIMES_BF16})")


if __name__ == "__main__":
    main()
