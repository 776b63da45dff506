"""The grid's figures are ir_measures' figures of full runs, from one encoding."""

from __future__ import annotations

import dataclasses
import zlib
from collections import Counter
from pathlib import Path

import ir_measures
import numpy as np
import pytest

from beir_hybrid.collections.builder import CollectionBuilder, Judgement, judged_collection
from beir_hybrid.collections.collection import CollectionInfo, MultilingualCollection
from beir_hybrid.collections.readers.lareqa import read_lareqa
from beir_hybrid.collections.texts import Texts
from beir_hybrid.encoders.store import EmbeddingStore
from beir_hybrid.errors import BeirHybridError
from beir_hybrid.evaluation.grid import evaluate_grid, grid_from_embeddings
from beir_hybrid.evaluation.text_vectors import TextVectors
from beir_hybrid.retrieval.search import top_k
from beir_hybrid.retrieval.vectors import Vectors

LAREQA = Path(__file__).parents[3] / "shared" / "data" / "lareqa"


def toy(repeats: int = 2) -> MultilingualCollection:
    """Three languages of different sizes, out of order; equal texts; an item that one language lacks."""
    builder = CollectionBuilder("toy", ("en", "de", "hi"), CollectionInfo("none", "none", "a test"))
    for item in range(9):
        for number, code in enumerate(("en", "de", "hi")):
            if code == "hi" and item % 3 == 0:
                continue
            row = builder.add_passage(f"{code}_{item}", f"answer {item % 5}", number, "a test")
            for extra in range(repeats):
                builder.add_passage(f"{code}_{item}_{extra}", f"other {code} {item * extra}", number, "a test")
            builder.add_query(f"q{item}_{code}", f"question {code} {item % 7}", number, f"q{item}", row, "a test")
    return builder.build()


class Hashed:
    """Counts of hashed character n-grams: whole numbers, so that inner products are exact."""

    score_function = "dot"

    def __init__(self, dimensions: int = 64) -> None:
        self.dimensions = dimensions
        self.seen: Counter[str] = Counter()

    def encode_queries(self, queries, batch_size, **kwargs):
        return self._encode(queries)

    def encode_corpus(self, corpus, batch_size, **kwargs):
        return self._encode([document["title"] + document["text"] for document in corpus])

    def _encode(self, texts):
        self.seen.update(texts)
        vectors = np.zeros((len(texts), self.dimensions), dtype=np.float32)
        for vector, text in zip(vectors, texts, strict=True):
            for start in range(len(text) - 2):
                vector[zlib.crc32(text[start : start + 3].encode()) % self.dimensions] += 1
        return vectors


def full_run(encoder, view):
    """Every passage of the setting, scored one by one, as BEIR's own dicts."""
    queries, corpus = view.queries, view.corpus
    products = encoder.encode_queries(list(queries.values()), 1) @ encoder.encode_corpus(list(corpus.values()), 1).T
    return {
        query: dict(zip(corpus, scores, strict=True)) for query, scores in zip(queries, products.tolist(), strict=True)
    }


def expected(encoder, view, measures):
    qrels = {query: dict(judged) for query, judged in view.qrels.items()}
    parsed = [ir_measures.parse_measure(measure) for measure in measures]
    return ir_measures.calc_aggregate(parsed, qrels, full_run(encoder, view))


def test_every_setting_is_what_ir_measures_says_of_its_run():
    collection, encoder = toy(), Hashed()
    results = evaluate_grid(encoder, collection, system="hashed", progress=False)
    for setting in collection.settings:
        measures = ["AP", "R@10", "RankDistance"] if setting.kind == "multi" else ["AP", "R@1"]
        figures = results.select(setting=str(setting))
        assert [figure.measure for figure in figures] == measures
        for measure, value in expected(Hashed(), collection.view(setting), measures).items():
            (figure,) = (figure for figure in figures if figure.measure == str(measure))
            assert figure.value == pytest.approx(value, abs=1e-12)
            assert figure.queries == len(collection.view(setting).query_rows)
            assert (figure.system, figure.query_language) == ("hashed", setting.query_language)


def test_averages():
    results = evaluate_grid(Hashed(), toy(), progress=False)
    for kind in ("mono", "cross", "multi"):
        cells = [f for f in results.figures if f.setting.startswith(f"toy/{kind}/") and f.measure == "AP"]
        macro = results.value(setting=kind, measure="AP", average="macro")
        micro = results.value(setting=kind, measure="AP", average="micro")
        assert macro == pytest.approx(np.mean([cell.value for cell in cells]), abs=1e-12)
        assert micro == pytest.approx(
            np.average([c.value for c in cells], weights=[c.queries for c in cells]), abs=1e-12
        )
        assert macro != pytest.approx(micro, abs=1e-6)
    german = [results.value(setting=f"cross/de-{other}", measure="R@1") for other in ("en", "hi")]
    assert results.value(setting="cross", measure="R@1", average="macro", query_language="de") == np.mean(german)


def test_each_text_is_encoded_once():
    encoder, collection = Hashed(), toy()
    results = evaluate_grid(encoder, collection, progress=False)
    assert set(encoder.seen) == {*collection.queries.texts, *collection.passages.texts}
    assert set(encoder.seen.values()) == {1}
    assert results.provenance["texts_encoded"] == {
        "queries": len(set(collection.queries.texts)),
        "passages": len(set(collection.passages.texts)),
    }


def test_only_the_languages_asked_for_are_encoded():
    everything = evaluate_grid(Hashed(), toy(), progress=False)
    for name in ("mono/hi", "cross/de-hi", "multi/hi"):
        encoder = Hashed()
        results = evaluate_grid(encoder, toy(), settings=[name], progress=False)
        assert results.figures == everything.select(setting=f"toy/{name}")
        assert any("question en" in text for text in encoder.seen) is False
        assert any("other en" in text for text in encoder.seen) is name.startswith("multi")


def test_averages_need_all_of_their_settings():
    results = evaluate_grid(Hashed(), toy(), settings=["mono", "cross/en-de", "cross/en-hi"], progress=False)
    averages = {(figure.setting, figure.query_language) for figure in results.figures if figure.average}
    assert averages == {("toy/mono", ""), ("toy/cross", "en")}


def test_chosen_measures():
    results = evaluate_grid(Hashed(), toy(), measures=["nDCG@10", "RankDistance"], progress=False)
    assert {figure.measure for figure in results.select(setting="toy/mono")} == {"nDCG@10"}
    assert {figure.measure for figure in results.select(setting="toy/multi")} == {"nDCG@10", "RankDistance"}


def test_two_evaluations_differ_in_seconds_only():
    one, other = (evaluate_grid(Hashed(), toy(), progress=False).to_json() for _ in range(2))
    assert set(one["provenance"].pop("timing")) == {"encode_seconds", "rank_seconds"}
    other["provenance"].pop("timing")
    assert one == other
    assert one["provenance"]["digest"] == toy().digest
    assert one["provenance"]["text_mode"] == "sentence"
    assert one["provenance"]["versions"]["numpy"] == np.__version__


def test_cosine_is_the_dot_of_normalised_vectors():
    collection = toy()
    generator = np.random.default_rng(0)
    queries = generator.standard_normal((len(collection.queries), 8))
    passages = generator.standard_normal((len(collection.passages), 8))
    scaled = passages * generator.uniform(0.5, 2, (len(passages), 1))
    plain = grid_from_embeddings(queries, passages, collection)
    assert grid_from_embeddings(queries, scaled, collection).figures == plain.figures
    assert grid_from_embeddings(queries, scaled, collection, score_function="dot").figures != plain.figures
    torch = pytest.importorskip("torch")
    assert grid_from_embeddings(torch.tensor(queries), torch.tensor(passages), collection).figures == plain.figures


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"measures": ["AP", "mape"]}, "unknown measure 'mape'"),
        ({"measures": "AP"}, "lists of names"),
        ({"measures": ["RankDistance"], "settings": ["mono"]}, "RankDistance needs multi"),
        ({"settings": ["mono/fr"]}, "unknown setting 'toy/mono/fr'. Did you mean"),
        ({"settings": []}, "no settings were asked for"),
    ],
)
def test_bad_calls_are_named_before_anything_is_encoded(arguments, said):
    encoder = Hashed()
    with pytest.raises(BeirHybridError) as caught:
        evaluate_grid(encoder, toy(), progress=False, **arguments)
    assert said in str(caught.value)
    assert not encoder.seen


def test_bad_vectors_are_named():
    collection = toy()
    queries, passages = np.ones((len(collection.queries), 2)), np.ones((len(collection.passages), 2))
    with pytest.raises(BeirHybridError, match=r"shape \(2, 2\) for 24 texts"):
        grid_from_embeddings(queries[:2], passages, collection)
    with pytest.raises(BeirHybridError, match="unknown score function 'l2'"):
        grid_from_embeddings(queries, passages, collection, score_function="l2")
    passages[3] = 0
    with pytest.raises(BeirHybridError, match=f"the vector of '{collection.passages.ids[3]}' .* is zero"):
        grid_from_embeddings(queries, passages, collection)
    passages[3] = np.nan
    with pytest.raises(BeirHybridError, match=f"the vector of '{collection.passages.ids[3]}' .* is not finite"):
        grid_from_embeddings(queries, passages, collection)


@pytest.mark.skipif(not LAREQA.is_dir(), reason=f"the LAReQA data is not at {LAREQA}")
def test_xquad_r_is_what_ir_measures_says():
    languages = ("en", "th")
    collection = read_lareqa(LAREQA / "xquad-r", "xquad-r", languages, CollectionInfo("CC BY-SA 4.0", "", "LAReQA"))
    encoder = Hashed(128)
    results = evaluate_grid(encoder, collection, progress=False)
    for name in ("mono/en", "cross/en-th", "multi/th"):
        view = collection.view(name)
        queries, corpus = encoder.encode_queries(list(view.queries.values()), 1), list(view.corpus)
        passages = encoder.encode_corpus(list(view.corpus.values()), 1)
        scores, rows = top_k(queries, passages, len(corpus), corpus)
        run = {
            query: dict(zip((corpus[row] for row in best), values, strict=True))
            for query, values, best in zip(view.queries, scores.tolist(), rows.tolist(), strict=True)
        }
        measures = ["AP", "R@10", "RankDistance"] if name.startswith("multi") else ["AP", "R@1"]
        qrels = {query: dict(judged) for query, judged in view.qrels.items()}
        found = ir_measures.calc_aggregate([ir_measures.parse_measure(m) for m in measures], qrels, run)
        for measure, value in found.items():
            assert results.value(setting=name, measure=str(measure)) == pytest.approx(value, abs=1e-9)


def apart(judgements: list[Judgement], queries: tuple[int, ...] = (0, 1)) -> MultilingualCollection:
    """Two languages with the same ids, as MIRACL has them."""
    both = np.array([0, 0, 1, 1], dtype=np.int16)
    asked = Texts(tuple("0" for _ in queries), tuple("?" for _ in queries), np.array(queries, dtype=np.int16))
    passages = Texts(("0", "1", "0", "1"), ("a", "b", "c", "d"), both, titles=("A", "", "C", ""))
    info = CollectionInfo("", "", "made by the tests")
    return judged_collection("apart", ("sw", "yo"), asked, passages, judgements, info, kinds=("mono",))


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_vectors_are_read_from_a_file_a_block_at_a_time(tmp_path: Path, monkeypatch, dtype: str) -> None:
    collection = toy(8)
    generator = np.random.default_rng(0)
    queries, passages = (
        generator.standard_normal((len(texts), 8)).astype(dtype) for texts in (collection.queries, collection.passages)
    )
    paths = [tmp_path / "queries.npy", tmp_path / "passages.npy"]
    for path, vectors in zip(paths, (queries, passages), strict=True):
        np.save(path, vectors)
    monkeypatch.setattr(Vectors, "rows_at_once", 5)
    most: list[int] = []
    read = TextVectors.__getitem__

    def watched(self, key):
        found = read(self, key)
        most.append(len(found))
        return found

    monkeypatch.setattr(TextVectors, "__getitem__", watched)
    for opened in ([EmbeddingStore.open(path) for path in paths], [np.load(path, mmap_mode="r") for path in paths]):
        for settings in (None, ["cross/en-hi"]):
            plain = grid_from_embeddings(queries, passages, collection, settings=settings)
            most.clear()
            assert grid_from_embeddings(*opened, collection, settings=settings).figures == plain.figures
            assert max(most) <= len(collection.queries) < len(collection.passages)


def test_graded_judgements_are_gains_as_pytrec_eval_has_them() -> None:
    generator = np.random.default_rng(1)
    both = np.repeat(np.arange(2, dtype=np.int16), 30)
    asked = Texts(tuple(f"q{n}" for n in range(8)), ("?",) * 8, np.repeat(np.arange(2, dtype=np.int16), 4))
    passages = Texts(tuple(f"d{n:02}" for n in range(60)), ("text",) * 60, both)
    grades = generator.integers(-1, 4, (8, 60)) * (generator.random((8, 60)) < 0.2)
    judged = [Judgement(q, f"d{p:02}", int(grades[q, p]), "") for q, p in zip(*np.nonzero(grades), strict=True)]
    collection = judged_collection("graded", ("en", "de"), asked, passages, judged, CollectionInfo("", "", "a test"))
    vectors = [generator.integers(-2, 3, (rows, 4)).astype(np.float32) for rows in (8, 60)]  # with ties
    measures = ["nDCG@10", "nDCG", "AP(rel=2)", "R@5"]
    results = grid_from_embeddings(*vectors, collection, measures=measures, score_function="dot")
    assert collection.relevant.grades.max() == 3
    for setting in collection.settings:
        view = collection.view(setting)
        scores = vectors[0][view.query_rows] @ vectors[1][view.passage_rows].T
        run = {
            q: dict(zip(view.corpus, row, strict=True)) for q, row in zip(view.queries, scores.tolist(), strict=True)
        }
        qrels = {query: dict(grades) for query, grades in view.qrels.items()}
        for measure in measures:
            (wanted,) = ir_measures.pytrec_eval.calc_aggregate(
                [ir_measures.parse_measure(measure)], qrels, run
            ).values()
            assert results.value(setting=str(setting), measure=measure) == pytest.approx(wanted, abs=1e-12)


def test_languages_with_the_same_ids_are_evaluated_each_on_its_own() -> None:
    collection = apart([Judgement(0, "0", 1, ""), Judgement(1, "1", 1, ""), Judgement(1, "0", 0, "")])
    queries, passages = np.eye(4)[[0, 2]], np.eye(4)
    results = grid_from_embeddings(queries, passages, collection, measures=["AP"])
    found = {figure.setting: figure.value for figure in results.figures if not figure.average}
    assert found == {"apart/mono/sw": 1.0, "apart/mono/yo": 0.5}
    part = grid_from_embeddings(queries, passages, collection, measures=["AP"], settings=["mono/yo"])
    assert [figure.value for figure in part.figures] == [0.5]


def test_without_judgements_or_anything_relevant_there_is_one_error_before_encoding() -> None:
    with pytest.raises(BeirHybridError, match="no judgements: they are kept back"):
        evaluate_grid(object(), apart([]))  # type: ignore[arg-type]
    with pytest.raises(BeirHybridError, match="no question has a relevant passage"):
        evaluate_grid(object(), apart([Judgement(0, "0", 0, "")]))  # type: ignore[arg-type]


def test_no_average_is_taken_where_only_a_part_was_read() -> None:
    collection = dataclasses.replace(apart([Judgement(0, "0", 1, "")], (0,)), whole=False)
    results = grid_from_embeddings(np.eye(4)[:1], np.eye(4), collection, measures=["AP"])
    assert [(figure.setting, figure.average) for figure in results.figures] == [("apart/mono/sw", "")]


def test_no_question_finds_itself_where_ids_are_shared() -> None:
    one = np.zeros(2, dtype=np.int16)
    queries = Texts(("1",), ("a",), one[:1])
    passages = Texts(("1", "2"), ("a", "b"), one)
    info = CollectionInfo("", "", "made by the tests")
    collection = judged_collection("own", ("en",), queries, passages, [Judgement(0, "2", 1, "")], info)
    vectors = np.eye(2)
    for same_ids, value in ((False, 0.5), (True, 1.0)):
        data = dataclasses.replace(collection, same_ids=same_ids)
        results = grid_from_embeddings(vectors[:1], vectors, data, measures=["AP"], settings=["mono/en"])
        assert results.figures[0].value == value
