"""The main job with the real encoder: figures that were measured, and the effect of hybrid batches."""

from __future__ import annotations

from pathlib import Path

import faiss
import numpy as np
import pytest

import beir_hybrid
from beir_hybrid import DenseEncoder, HybridTrainer, HybridTrainingArguments, export_pyserini
from beir_hybrid.evaluation.figures import Results
from beir_hybrid.retrieval.search import top_k
from tests.data import LAREQA, needs_lareqa

TOLERANCE, RANKS = 0.005, 5


def figure(results: Results, kind: str, measure: str) -> float:
    return results.value(setting=kind, measure=measure, average="macro")


@pytest.fixture(scope="module")
def encoder(bundled_folder: Path) -> DenseEncoder:
    return DenseEncoder("bundled:multilingual-e5-small", progress=False)


@pytest.fixture(scope="module")
def before(encoder: DenseEncoder) -> Results:
    return beir_hybrid.evaluate_grid(encoder, beir_hybrid.load("sample-test"), progress=False)


def test_zero_shot_on_the_sample(before: Results) -> None:
    measured = {("mono", "AP"): 0.979, ("cross", "AP"): 0.901, ("multi", "AP"): 0.503}
    for (kind, measure), value in measured.items():
        assert figure(before, kind, measure) == pytest.approx(value, abs=TOLERANCE)
    assert figure(before, "multi", "RankDistance") == pytest.approx(82.1, abs=RANKS)


@needs_lareqa
@pytest.mark.slow
def test_zero_shot_on_xquad_r(encoder: DenseEncoder) -> None:
    # The questions of one language, and a pool of four.
    collection = beir_hybrid.load("xquad-r@ar+de+en+zh", data_dir=LAREQA)
    results = beir_hybrid.evaluate_grid(encoder, collection, settings=["mono/en", "cross/en-de", "multi/en"])
    measured = {"mono/en": 0.846, "cross/en-de": 0.766, "multi/en": 0.437}
    for setting, value in measured.items():
        assert results.value(setting=setting, measure="AP") == pytest.approx(value, abs=TOLERANCE)
    distance = results.value(setting="multi/en", measure="RankDistance")
    assert distance == pytest.approx(203.8, abs=RANKS)


def test_the_exported_index_gives_the_same_top_100(encoder: DenseEncoder, tmp_path: Path) -> None:
    collection = beir_hybrid.load("sample-test")
    folder = export_pyserini(encoder, collection, tmp_path / "index").folder
    index = faiss.read_index(str(folder / "index"))
    docids = np.array((folder / "docid").read_text().splitlines())
    assert docids.tolist() == list(collection.passages.ids)
    queries = encoder.encode_queries(collection.queries.texts)
    passages = index.reconstruct_n(0, index.ntotal)
    scores, rows = top_k(queries, passages, 100, collection.passages.ids)
    found_scores, found = index.search(queries, 100)
    np.testing.assert_allclose(found_scores, scores, atol=1e-5)
    same = [set(ours) == set(theirs) for ours, theirs in zip(docids[rows], docids[found], strict=True)]
    # Where the last score is tied to the last bits, either passage may be the hundredth.
    assert np.mean(same) > 0.99


@pytest.mark.slow
def test_hybrid_batches_lower_the_language_bias(bundled_folder: Path, before: Results, tmp_path: Path) -> None:
    encoder = DenseEncoder(bundled_folder, progress=False)
    arguments = HybridTrainingArguments(
        str(tmp_path),
        max_steps=20,
        freeze_embeddings=True,
        dropout=0.0,
        bf16=encoder.precision == "bf16",
        use_cpu=True,
        save_strategy="no",
        disable_tqdm=True,
    )
    HybridTrainer(encoder.model, arguments, beir_hybrid.load("sample-train")).train()
    after = beir_hybrid.evaluate_grid(encoder, beir_hybrid.load("sample-test"), progress=False)
    assert figure(after, "multi", "RankDistance") < 0.7 * figure(before, "multi", "RankDistance")
    assert figure(after, "multi", "AP") > figure(before, "multi", "AP") + 0.02
    assert figure(after, "mono", "AP") > figure(before, "mono", "AP") - 0.02
