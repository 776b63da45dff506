"""Exact search against a slow reference: ties, duplicates, blocks, languages out of order."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beir_hybrid.collections.builder import CollectionBuilder
from beir_hybrid.collections.collection import CollectionInfo, MultilingualCollection
from beir_hybrid.encoders.store import EmbeddingStore
from beir_hybrid.errors import BeirHybridError
from beir_hybrid.retrieval import best
from beir_hybrid.retrieval import vectors as vectors_module
from beir_hybrid.retrieval.search import relevant_ranks, top_k
from beir_hybrid.retrieval.vectors import Vectors, first_equal
from tests.encoders.test_store import write_store


def ranking(scores, ids):
    """The slow reference: columns by score, then by id, both descending."""
    return sorted(range(len(ids)), key=lambda column: (scores[column], ids[column]), reverse=True)


@st.composite
def vectors_and_ids(draw, most=5):
    """Small whole numbers: products are exact, so the reference is too, and ties are many."""
    generator = np.random.default_rng(draw(st.integers(0, 2**32)))
    queries, passages = draw(st.one_of(st.integers(1, 5), st.just(most))), draw(st.integers(1, 70))
    widest = draw(st.sampled_from([1, 2, 50]))
    found = generator.integers(-widest, widest + 1, (passages, 3)).astype(np.float32)
    asked = generator.integers(-widest, widest + 1, (queries, 3)).astype(np.float32)
    ids = [f"d{number}" for number in generator.permutation(passages)]
    return asked, found, ids


@settings(deadline=None)
@given(vectors_and_ids(most=300), st.integers(1, 80), st.sampled_from([1, 2, 7, 64, 1000]), st.booleans())
def test_top_k_is_the_head_of_the_full_ranking(case, k, block, held):
    queries, passages, ids = case
    with pytest.MonkeyPatch.context() as patch:
        if not held:  # passages larger than memory pass by in blocks
            patch.setattr(best, "_BYTES_HELD", 0)
        scores, rows = top_k(queries, passages, k, ids, block=block)
    assert (scores.dtype, rows.dtype) == (np.float32, np.int64)
    for query, products in enumerate(queries @ passages.T):
        expected = ranking(products, ids)[:k]
        assert rows[query].tolist() == expected
        assert scores[query].tolist() == products[expected].tolist()


def test_equal_vectors_tie_exactly_in_any_block():
    generator = np.random.default_rng(0)
    distinct = generator.standard_normal((40, 384)).astype(np.float32)
    passages = distinct[generator.integers(0, 40, 300)]
    ids = [f"{number:03d}" for number in range(300)]
    queries = generator.standard_normal((3, 384)).astype(np.float32)
    whole = top_k(queries, passages, 300, ids)
    for block in (1, 33, 100):
        for one, other in zip(whole, top_k(queries, passages, 300, ids, block=block), strict=True):
            np.testing.assert_array_equal(one, other)
    for score, row in zip(*whole, strict=True):
        assert len(set(score.tolist())) == len(set(map(bytes, passages)))
        assert all(a > b for s, t, a, b in zip(score[:-1], score[1:], row[:-1], row[1:], strict=True) if s == t)


def test_zero_and_minus_zero_tie():
    _, rows = top_k([[1.0, 0.0]], np.array([[0.0, 1.0], [-0.0, 1.0], [0.0, 1.0]], dtype=np.float32), 3, ["a", "c", "b"])
    assert rows.tolist() == [[1, 2, 0]]


@pytest.mark.parametrize(
    ("queries", "passages", "k", "ids", "said"),
    [
        ([[1.0, 2.0]], [[1.0]], 1, ["a"], "2 dimensions and passage vectors 1"),
        ([[1.0]], [[float("nan")], [1.0]], 1, ["a", "b"], "row 0 of the passage vectors"),
        ([[1.0], [float("inf")]], [[1.0]], 1, ["a"], "row 1 of the query vectors"),
        ([[1.0]], [[1.0]], 0, ["a"], "k is 0"),
        ([[1.0]], [[1.0], [2.0]], 1, ["a"], "2 passage vectors for 1 passages"),
        ([[1.0]], [[1.0], [2.0]], 1, ["a", "a"], "used twice"),
        ([1.0], [[1.0]], 1, ["a"], "shape (1,)"),
        ([[1.0]], np.empty((0, 1)), 1, [], "no passage vectors"),
    ],
)
def test_bad_input_is_named(queries, passages, k, ids, said):
    with pytest.raises(BeirHybridError) as caught:
        top_k(queries, passages, k, ids)
    assert said in str(caught.value)


def collection(languages: list[int], questions: list[tuple[int, int, int]], ids: list[str]) -> MultilingualCollection:
    """Passages of these `languages`; questions as (language, item, answering passage)."""
    info = CollectionInfo(licence="none", citation="none", origin="a test")
    builder = CollectionBuilder("toy", ("aa", "bb", "cc"), info)
    for identifier, language in zip(ids, languages, strict=True):
        builder.add_passage(identifier, identifier, language, "a test")
    for number, (language, item, passage) in enumerate(questions):
        builder.add_query(f"q{number}", f"question {number}", language, f"item {item}", passage, "a test")
    return builder.build()


@st.composite
def searched_collections(draw):
    queries, passages, ids = draw(vectors_and_ids())
    languages = draw(st.lists(st.integers(0, 2), min_size=len(passages), max_size=len(passages)))
    questions = [
        (draw(st.integers(0, 2)), draw(st.integers(0, 2)), draw(st.integers(0, len(passages) - 1))) for _ in queries
    ]
    return queries, passages, collection(languages, questions, ids)


@settings(max_examples=200, deadline=None)
@given(searched_collections())
def test_relevant_ranks_are_those_of_the_full_ranking(case):
    queries, passages, toy = case
    ranks = relevant_ranks(queries, passages, toy)
    products = queries @ passages.T
    language = toy.passages.language
    for pair, (query, passage) in enumerate(zip(toy.relevant.queries, toy.relevant.passages, strict=True)):
        full = ranking(products[query], toy.passages.ids)
        own = [column for column in full if language[column] == language[passage]]
        assert ranks.in_pool[pair] == full.index(passage) + 1
        assert ranks.in_language[pair] == own.index(passage) + 1


def test_ranks_do_not_depend_on_the_block(monkeypatch):
    generator = np.random.default_rng(1)
    passages = generator.standard_normal((60, 64)).astype(np.float32)[generator.integers(0, 60, 200)]
    queries = generator.standard_normal((20, 64)).astype(np.float32)
    questions = [(number % 3, number % 7, int(generator.integers(200))) for number in range(20)]
    toy = collection(generator.integers(0, 3, 200).tolist(), questions, [f"{n:03d}" for n in range(200)])
    seen = []
    whole = relevant_ranks(queries, passages, toy, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(20, 20)]
    monkeypatch.setattr("beir_hybrid.retrieval.ranks._PASSAGES_AT_ONCE", 7)
    monkeypatch.setattr("beir_hybrid.retrieval.targets.QUERIES_AT_ONCE", 6)
    monkeypatch.setattr("beir_hybrid.retrieval.targets._TARGET_QUERIES_AT_ONCE", 5)
    monkeypatch.setattr("beir_hybrid.retrieval.vectors.Vectors.rows_at_once", 33)
    small = relevant_ranks(queries, passages, toy)
    np.testing.assert_array_equal(whole.in_pool, small.in_pool)
    np.testing.assert_array_equal(whole.in_language, small.in_language)


def test_ranks_of_one_constant_vector_are_settled_by_id():
    toy = collection([0, 1, 0, 1], [(0, 0, 0), (1, 0, 3)], ["a", "b", "c", "d"])
    ranks = relevant_ranks(np.ones((2, 2)), np.ones((4, 2)), toy)
    assert ranks.in_pool.tolist() == [4, 1, 4, 1]
    assert ranks.in_language.tolist() == [2, 1, 2, 1]


def test_vectors_must_be_the_collections():
    toy = collection([0], [(0, 0, 0)], ["a"])
    with pytest.raises(BeirHybridError, match="2 query vectors for the 1 queries of toy"):
        relevant_ranks(np.ones((2, 2)), np.ones((1, 2)), toy)
    with pytest.raises(BeirHybridError, match="2 passage vectors for 1 passages"):
        relevant_ranks(np.ones((1, 2)), np.ones((2, 2)), toy)


def test_a_vector_that_is_not_finite_is_named_by_its_own_row():
    toy = collection([1, 0, 0], [(0, 0, 0)], ["a", "b", "c"])
    with pytest.raises(BeirHybridError, match="row 0 of the passage vectors"):
        relevant_ranks(np.ones((1, 2)), [[np.nan, 1], [1, 1], [1, 1]], toy)


def test_ranks_leave_out_the_passage_that_a_question_is(monkeypatch):
    """Against the scores with minus infinity put in, whatever the block; copies of that passage stay."""
    generator = np.random.default_rng(2)
    passages = generator.integers(-2, 3, (60, 3)).astype(np.float32)
    queries = generator.integers(-2, 3, (12, 3)).astype(np.float32)
    questions = [(number % 3, number % 4, int(generator.integers(60))) for number in range(12)]
    ids = [f"q{number}" for number in generator.permutation(60)]
    toy = collection(generator.integers(0, 3, 60).tolist(), questions, [f"d{number}" for number in range(60)])
    toy = replace(toy, passages=replace(toy.passages, ids=ids, index=None), same_ids=True)
    for rows_at_once in (1000, 7):
        monkeypatch.setattr("beir_hybrid.retrieval.vectors.Vectors.rows_at_once", rows_at_once)
        ranks = relevant_ranks(queries, passages, toy)
        for pair, (query, passage) in enumerate(zip(toy.relevant.queries, toy.relevant.passages, strict=True)):
            scores = queries[query] @ passages.T
            scores[toy.passages.ids.index(toy.queries.ids[query])] = -np.inf
            full = ranking(scores, toy.passages.ids)
            own = [row for row in full if toy.passages.language[row] == toy.passages.language[passage]]
            assert ranks.in_pool[pair] == full.index(passage) + 1
            assert ranks.in_language[pair] == own.index(passage) + 1


class Shards:
    """Like an embedding store: rows and slices only, half precision inside."""

    def __init__(self, vectors):
        self._vectors = vectors.astype(np.float16)
        self.shape = vectors.shape
        self.longest = 0

    def __len__(self):
        return self.shape[0]

    def __getitem__(self, rows):
        found = self._vectors[rows].astype(np.float32)
        self.longest = max(self.longest, len(found))
        return found


@settings(deadline=None)
@given(vectors_and_ids(), st.integers(1, 80), st.sampled_from([1, 7, 64]))
def test_a_store_is_searched_like_an_array(case, k, block):
    queries, passages, ids = case
    for vectors in (Shards(passages), passages.astype(np.float16), passages.astype(np.int8)):
        for one, other in zip(
            top_k(queries, passages, k, ids), top_k(queries, vectors, k, ids, block=block), strict=True
        ):
            np.testing.assert_array_equal(one, other)


@settings(max_examples=40, deadline=None)
@given(vectors_and_ids(), st.integers(1, 80), st.integers(1, 40), st.booleans(), st.booleans())
def test_shards_of_a_store_on_disk_are_searched_like_an_array(case, k, shard_rows, half, held):
    queries, passages, ids = case
    with TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        write_store(Path(name) / "store", passages.astype(np.float16 if half else np.float32), shard_rows)
        store = EmbeddingStore.open(Path(name) / "store")
        patch.setattr(best, "_BYTES_HELD", best._BYTES_HELD if held else 0)
        patch.setattr(Vectors, "rows_at_once", 11)
        found = top_k(queries, store, k, ids, block=13)
        if not half:
            broken = passages.copy()
            broken[-1, 0] = np.nan
            write_store(Path(name) / "broken", broken, shard_rows)
            with pytest.raises(BeirHybridError, match=f"row {len(passages) - 1} of the passage vectors holds NaN"):
                top_k(queries, EmbeddingStore.open(Path(name) / "broken"), k, ids)
    for one, other in zip(found, top_k(queries, passages, k, ids), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_mapped_file_is_read_in_blocks(tmp_path):
    generator = np.random.default_rng(3)
    passages = generator.standard_normal((3000, 48)).astype(np.float32)
    passages[1000:1400] = passages[:400]
    np.save(tmp_path / "passages.npy", passages)
    mapped = np.load(tmp_path / "passages.npy", mmap_mode="r")
    queries = generator.standard_normal((70, 48)).astype(np.float32)
    ids = [f"{number:04d}" for number in range(3000)]
    for k in (1, 100, 1500, 3000):
        whole = top_k(queries, passages, k, ids)
        for one, other in zip(whole, top_k(queries, mapped, k, ids, block=700), strict=True):
            np.testing.assert_array_equal(one, other)
        products = queries @ passages.T
        products[:, 1000:1400] = products[:, :400]
        for query in (0, 69):
            assert whole[1][query].tolist() == np.lexsort((-np.arange(3000), -products[query]))[:k].tolist()
    store = Shards(passages)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("beir_hybrid.retrieval.vectors.Vectors.rows_at_once", 500)
        top_k(queries, store, 5, ids, block=700)
    assert store.longest == 700


def test_many_queries_in_small_memory(monkeypatch):
    generator = np.random.default_rng(4)
    passages = generator.integers(-3, 4, (500, 4)).astype(np.float32)
    queries = generator.integers(-3, 4, (600, 4)).astype(np.float32)
    ids = [f"{number:03d}" for number in generator.permutation(500)]
    whole = top_k(queries, passages, 20, ids)
    monkeypatch.setattr("beir_hybrid.retrieval.best._KEYS_AT_ONCE", 100)
    for one, other in zip(whole, top_k(queries, passages, 20, ids, block=90), strict=True):
        np.testing.assert_array_equal(one, other)
    for query in range(0, 600, 50):
        assert whole[1][query].tolist() == ranking(passages @ queries[query], ids)[:20]


def test_no_queries_and_scores_beyond_single_precision():
    scores, rows = top_k(np.empty((0, 2), dtype=np.float32), np.ones((3, 2)), 2, ["a", "b", "c"])
    assert scores.shape == rows.shape == (0, 2)
    with pytest.raises(BeirHybridError, match="beyond float32"):
        top_k([[1e30]], [[1e30], [1.0]], 1, ["a", "b"])


@settings(deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 80), st.sampled_from([1, 2, 40]), st.sampled_from(["", "few", "one"]))
def test_the_first_equal_row_is_found_whatever_the_hashes(seed, rows, numbers, bad):
    generator = np.random.default_rng(seed)
    distinct = generator.integers(-1, 2, (generator.integers(1, 6), numbers)).astype(np.float32)
    vectors = distinct[generator.integers(0, len(distinct), rows)]
    vectors[generator.random(vectors.shape) < 0.1] *= -1  # zeros of both signs, and rows that differ late
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Vectors, "rows_at_once", 7)
        patch.setattr(vectors_module, "_ROWS_HASHED_AT_ONCE", 3)
        if bad:
            patch.setattr(vectors_module, "_hashes", lambda some: (some[:, 0] > (bad == "one")).astype(np.uint64))
        first, largest = first_equal(Vectors.of(vectors, "vectors"))
    assert first.tolist() == [int((vectors == row).all(axis=1).argmax()) for row in vectors]
    assert largest == abs(vectors).max()
