from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from beir_hybrid.collections.lazy import Chain, Offset
from beir_hybrid.collections.texts import Relevance, RowMapping, Texts, first_of_equal

rows = st.lists(st.tuples(st.text(max_size=4), st.integers(0, 2)), unique=True, max_size=20)


def texts(found: list[tuple[str, int]]) -> Texts:
    language = np.array([number for _, number in found], dtype=np.int16)
    return Texts([name for name, _ in found], [f"text {name}" for name, _ in found], language)


@given(rows)
def test_an_id_is_found_in_its_language(found: list[tuple[str, int]]) -> None:
    these = texts(found)
    for row, (name, language) in enumerate(found):
        assert these.find(name, language) == row
        anywhere = these.find(name)
        assert anywhere is not None
        assert found[anywhere][0] == name
    assert these.find("not there at all") is None
    for language in range(3):
        for name in {name for name, _ in found} - {name for name, number in found if number == language}:
            assert these.find(name, language) is None


@given(st.lists(st.lists(st.text(max_size=3), max_size=5), max_size=5), st.integers(-30, 30), st.integers(-30, 30))
def test_a_chain_is_the_sum_of_its_parts(parts: list[list[str]], a: int, b: int) -> None:
    chain, whole = Chain(parts), [one for part in parts for one in part]
    assert len(chain) == len(whole)
    assert list(chain) == whole
    assert [chain[row] for row in range(len(whole))] == whole
    assert chain[a:b] == whole[a:b]
    if -len(whole) <= a < len(whole):
        assert chain[a] == whole[a]
    else:
        with pytest.raises(IndexError):
            chain[a]


def test_an_offset_moves_rows() -> None:
    moved = Offset({"a": 0, "b": 3}, 10)
    assert dict(moved) == {"a": 10, "b": 13}
    assert "c" not in moved
    assert moved.get("c") is None


def test_a_mapping_has_only_its_own_rows() -> None:
    these = texts([("a", 0), ("b", 0), ("a", 1)])
    german = RowMapping(these, np.array([2]), lambda row: row, language=1)
    assert dict(german) == {"a": 2}
    assert "b" not in german
    first = RowMapping(these, np.array([0]), lambda row: row, language=0)
    assert dict(first) == {"a": 0}
    assert "b" not in first


@given(st.lists(st.lists(st.tuples(st.integers(0, 9), st.integers(-1, 3)), max_size=5), max_size=6), st.data())
def test_relevance_is_cut_as_lists_are(judged: list[list[tuple[int, int]]], data: st.DataObject) -> None:
    flat = [pair for pairs in judged for pair in pairs]
    start = np.cumsum([0, *(len(pairs) for pairs in judged)])
    relevance = Relevance(
        start, np.array([p for p, _ in flat], dtype=np.int64), np.array([g for _, g in flat], dtype=np.int16)
    )
    assert relevance.queries.tolist() == [query for query, pairs in enumerate(judged) for _ in pairs]

    def lists(one: Relevance) -> list[list[tuple[int, int]]]:
        return [
            list(zip(one[q].tolist(), one.grades[one.start[q] : one.start[q + 1]].tolist(), strict=True))
            for q in range(len(one.start) - 1)
        ]

    good = relevance.where(relevance.grades > 0)
    assert lists(good) == [[(p, g) for p, g in pairs if g > 0] for pairs in judged]
    order = data.draw(st.lists(st.integers(0, len(judged) - 1), max_size=8)) if judged else []
    assert lists(relevance.of_queries(np.array(order, dtype=np.int64))) == [judged[q] for q in order]


def test_title_and_text_are_joined() -> None:
    language = np.zeros(2, dtype=np.int16)
    titled = Texts(["a", "b"], ["one", "two"], language, titles=["T", ""])
    assert list(titled.full_texts) == ["T one", "two"]
    assert Texts(["a"], ["one"], language[:1]).full_texts[0] == "one"


@given(st.lists(st.text(max_size=2), max_size=30))
def test_equal_texts_have_one_place(found: list[str]) -> None:
    different, place = first_of_equal(found)
    assert list(different) == list(dict.fromkeys(found))
    assert found == (list(different) if place is None else [different[row] for row in place.tolist()])
