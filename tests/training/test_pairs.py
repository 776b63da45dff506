from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from beir_hybrid.collections import registry
from beir_hybrid.collections.builder import CollectionBuilder, Judgement, judged_collection
from beir_hybrid.collections.collection import CollectionInfo, MultilingualCollection
from beir_hybrid.collections.texts import Texts
from beir_hybrid.errors import BeirHybridError
from beir_hybrid.training.pairs import ParallelPairs
from tests.data import MIRACL_MINI, needs_miracl_mini

INFO = CollectionInfo("CC0-1.0", "", "made by the tests")


def small() -> MultilingualCollection:
    """q0 and q1 share their German passage only; q3's passage has the text of q2's; q4 stands alone, without a German
    question; q5 exists in German alone."""
    builder = CollectionBuilder("small", ("en", "de"), INFO)
    passages = {
        name: builder.add_passage(name, text, language, "test")
        for name, text, language in [
            ("e0", "zero", 0), ("e1", "one", 0), ("d01", "null und eins", 1), ("e2", "same text", 0), ("d2", "zwei", 1),
            ("d3", "same text ", 1), ("e4", "four", 0), ("d4", "vier", 1), ("d5", "fünf", 1), ("d5b", "fünf b", 1),
        ]
    }  # fmt: skip
    for item, language, answers in [
        (0, 0, ["e0"]), (0, 1, ["d01"]), (1, 0, ["e1"]), (1, 1, ["d01"]), (2, 0, ["e2"]), (2, 1, ["d2"]),
        (3, 1, ["d3"]), (4, 0, ["e4", "d4"]), (5, 1, ["d5b", "d5"]),
    ]:  # fmt: skip
        code = "en" if language == 0 else "de"
        for number, answer in enumerate(answers):
            builder.add_query(
                f"{item}_{code}_{number}", f"{item} {code}?", language, f"q{item}", passages[answer], "test"
            )
    return builder.build()


def test_rows_point_at_the_texts() -> None:
    collection = small()
    pairs = ParallelPairs.from_collection(collection)
    assert len(pairs) == 6
    assert pairs.languages == ("en", "de")
    assert pairs.query_texts is collection.queries.texts
    assert pairs.passage_texts is collection.passages.texts
    assert pairs.pair(0, 0, 1) == ("0 en?", "null und eins")
    assert pairs.pair(4, 0, 1) == ("4 en?", "vier")
    assert pairs.pair(5, 1, 1)[1] == "fünf"  # of two answers the first
    assert (pairs.query_row[3] >= 0).tolist() == [False, True]
    assert (pairs.source, pairs.digest) == ("small", collection.digest)
    with pytest.raises(BeirHybridError, match="item 5 has no question in en"):
        pairs.pair(5, 0, 0)


def test_groups_join_translations_and_equal_texts() -> None:
    group = ParallelPairs.from_collection(small()).item_group
    assert group[0] == group[1]
    assert group[2] == group[3]
    assert len(set(group.tolist())) == 4
    assert set(group.tolist()) == set(range(4))


def test_languages_can_be_chosen() -> None:
    pairs = ParallelPairs.from_collection(small(), ["de"])
    assert len(pairs) == 5  # q4 has no German question
    assert pairs.item_group.tolist() == [0, 0, 1, 1, 2]  # q2 and q3 are joined by their English passage all the same
    with pytest.raises(BeirHybridError, match=r"'dee'.*Did you mean 'de'"):
        ParallelPairs.from_collection(small(), ["dee"])
    with pytest.raises(BeirHybridError, match="de is named twice"):
        ParallelPairs.from_collection(small(), ["de", "de"])


def test_split_cuts_no_group(toy_collection: MultilingualCollection) -> None:
    pairs = ParallelPairs.from_collection(toy_collection)
    train, held_out = pairs.split(12, seed=3)
    assert len(held_out) == 12
    assert len(train) + len(held_out) == len(pairs)
    texts = [
        {part.passage_texts[row].split(" place ")[1] for row in part.passage_row.ravel() if row >= 0}
        for part in (train, held_out)
    ]
    assert not texts[0] & texts[1]
    again = pairs.split(12, seed=3)[1]
    np.testing.assert_array_equal(held_out.query_row, again.query_row)
    assert len(pairs.split(0.25)[1]) == 12
    assert "12 of 48" in held_out.source
    for bad in (0, 48, 0.0):
        with pytest.raises(BeirHybridError, match="leaves one part empty"):
            pairs.split(bad)


def test_shapes_are_checked() -> None:
    rows = np.zeros((2, 2), dtype=np.int64)
    with pytest.raises(BeirHybridError, match="expected \\(2, 3\\)"):
        ParallelPairs(("a", "b", "c"), [], [], rows, rows, np.arange(2), "x", "")


def test_no_torch_is_imported() -> None:
    code = "import sys, beir_hybrid.training.batching, beir_hybrid.training.pairs; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_titled_passage_is_trained_on_with_its_title() -> None:
    one = np.zeros(2, dtype=np.int16)
    queries, passages = Texts(("q", "r"), ("a?", "b?"), one), Texts(("0", "1"), ("x", "y"), one, titles=("T", ""))
    info = CollectionInfo("", "", "made by the tests")
    judgements = [Judgement(0, "0", 1, ""), Judgement(0, "1", 0, ""), Judgement(1, "1", 1, "")]
    collection = judged_collection("titled", ("sw",), queries, passages, judgements, info, kinds=("mono",))
    pairs = ParallelPairs.from_collection(collection)
    assert [pairs.pair(item, 0, 0) for item in range(2)] == [("a?", "T x"), ("b?", "y")]


@needs_miracl_mini
def test_judged_passages_that_do_not_answer_are_negatives() -> None:
    collection = registry.load_collection(str(MIRACL_MINI), languages=["sw", "fi"])
    pairs = ParallelPairs.from_collection(collection)
    assert pairs.negatives is not None
    judged, total = collection.judgements, 0
    for item in range(len(pairs)):
        for language, code in enumerate(pairs.languages):
            if pairs.query_row[item, language] < 0:
                continue
            query = int(pairs.query_row[item, language])
            part = slice(int(judged.start[query]), int(judged.start[query + 1]))
            bad = [
                row for row, grade in zip(judged.passages[part].tolist(), judged.grades[part].tolist(), strict=True)
                if grade <= 0
            ]  # fmt: skip
            texts, groups = pairs.negatives.of(item * 2 + language, 99)
            assert texts == [collection.passages.full_texts[row] for row in bad]
            assert {collection.languages[collection.passages.language[row]] for row in bad} <= {code}
            for row, group in zip(bad, groups, strict=True):
                owners = pairs.item_group[(pairs.passage_row == row).any(axis=1)]
                assert group >= 0 or not len(owners)
                assert set(owners.tolist()) <= {group}
            total += len(bad)
    assert total == len(pairs.negatives.row) > 300
