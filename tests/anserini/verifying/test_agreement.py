"""The comparison of hits in arrays, beside a slow one that says the rule in words."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beir_hybrid.anserini.verifying.agreement import Hits, compare_hits, unsettled

TOLERANCE = 1e-5
N = 8


def agrees(found: list[tuple[int, float]], scores: list[float], depth: int) -> bool:
    """The rule, for one question: `found` are (passage, score), `scores` the true ones of all passages."""
    passages = [passage for passage, _ in found]
    last = sorted(scores, reverse=True)[depth - 1]
    return (
        len(found) == depth
        and len(set(passages)) == depth
        and all(later[1] - one[1] <= TOLERANCE for one, later in itertools.pairwise(found))
        and all(abs(score - scores[passage]) <= TOLERANCE for passage, score in found)
        and all(scores[passage] >= last - TOLERANCE for passage in passages)
        and all(passage in passages for passage in range(len(scores)) if scores[passage] > last + TOLERANCE)
    )


def hits(rows: list[list[tuple[int, float]]], depth: int) -> Hits:
    filled = [row + [(-1, -np.inf)] * (depth - len(row)) for row in rows]
    return Hits(
        np.array([[passage for passage, _ in row] for row in filled], dtype=np.int64),
        np.array([[score for _, score in row] for row in filled], dtype=np.float32),
    )


# Few steps of two sizes, so that exact ties, ties within the tolerance and real differences all happen.
score = st.builds(lambda coarse, fine: coarse / 4 + fine * 4e-6, st.integers(0, 3), st.integers(0, 2))


@settings(max_examples=400, deadline=None)
@given(st.data())
def test_the_rule_is_kept(data: st.DataObject) -> None:
    depth = data.draw(st.integers(1, N))
    questions = data.draw(st.integers(1, 3))
    true = [
        [float(np.float32(one)) for one in data.draw(st.lists(score, min_size=N, max_size=N))] for _ in range(questions)
    ]
    found = []
    for scores in true:
        order = sorted(range(N), key=lambda row: -scores[row])
        # Mostly a right ranking with neighbours changed about, sometimes a wrong one.
        for _ in range(data.draw(st.integers(0, 3))):
            a = data.draw(st.integers(0, N - 2))
            order[a], order[a + 1] = order[a + 1], order[a]
        row = [(passage, scores[passage] + data.draw(st.sampled_from([0, 0, 0, 3e-6, 1]))) for passage in order[:depth]]
        if data.draw(st.integers(0, 5)) == 0:
            row = row[:-1] if data.draw(st.booleans()) else [*row[:-1], row[0]]
        found.append([(passage, float(np.float32(value))) for passage, value in row])
    expected = [
        [(passage, scores[passage]) for passage in sorted(range(N), key=lambda row: (-scores[row], row))[:depth]]
        for scores in true
    ]
    table = np.array(true)
    agreement = compare_hits(hits(found, depth), hits(expected, depth), TOLERANCE, lambda q, p: table[q, p])
    assert agreement.wrong.tolist() == [not agrees(row, scores, depth) for row, scores in zip(found, true, strict=True)]
    assert bool(agreement.why) == agreement.wrong.any()
    for number, (row, best) in enumerate(zip(found, expected, strict=True)):
        if not agreement.wrong[number]:
            assert agreement.open[number] == ({p for p, _ in row} != {p for p, _ in best})


def test_what_is_wrong_is_said() -> None:
    expected = hits([[(0, 0.9), (1, 0.8)], [(2, 0.7), (3, 0.6)]], 2)

    def why(*second: tuple[int, float]) -> str:
        found = hits([[(0, 0.9), (1, 0.8)], list(second)], 2)
        return compare_hits(found, expected, TOLERANCE, lambda q, p: np.zeros(len(q))).why

    assert why((2, 0.7), (3, 0.6)) == ""
    assert why((2, 0.7)) == "question 1 has another number of hits"
    assert why((2, 0.7), (2, 0.7)) == "question 1 has a hit twice"
    assert why((3, 0.6), (2, 0.7)) == "question 1 has hits that are not in the order of their scores"
    assert why((2, 0.7), (3, 0.61)) == "question 1 has a hit with another score"
    assert why((2, 0.7), (4, 0.0)) == "question 1 has a hit that scores too little"
    assert why((2, np.nan), (3, 0.6)) == "question 1 has a hit with another score"


def test_no_question_and_no_hit_agree() -> None:
    for shape in ((0, 3), (2, 0)):
        empty = Hits(np.empty(shape, dtype=np.int64), np.empty(shape, dtype=np.float32))
        agreement = compare_hits(empty, empty, TOLERANCE, lambda q, p: np.zeros(len(q)))
        assert not agreement.wrong.any()
        assert agreement.apart == 0


@pytest.mark.parametrize(("apart", "open_"), [(1e-6, [True, False, False]), (1e-7, [False, False, False])])
def test_near_scores_leave_a_measure_open_only_where_grades_differ(apart: float, open_: list[bool]) -> None:
    scores = np.array([[0.5, 0.4, 0.399999], [0.5, 0.4, 0.399999], [0.5, 0.4, 0.3]])
    found = Hits(np.arange(9).reshape(3, 3), scores.astype(np.float64))  # type: ignore[arg-type]
    grades = np.array([[1, 0, 1], [1, 0, 0], [0, 1, 0]])
    assert unsettled(found, grades, apart).tolist() == open_
