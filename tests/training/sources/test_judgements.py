from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beir_hybrid.training.sources import judgements
from beir_hybrid.training.sources.judgements import Judgements, from_qrels, from_triples

QUERY, DOCUMENT = st.sampled_from("pqrs"), st.sampled_from("abcdefg")


def shown(judged: Judgements) -> list[tuple[str, str, list[str]]]:
    return [
        (
            judged.queries[judged.query[pair]],
            judged.documents[judged.positive[pair]],
            [judged.documents[one] for one in judged.negative[judged.start[pair] : judged.start[pair + 1]]],
        )
        for pair in range(len(judged))
    ]


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(QUERY, DOCUMENT, DOCUMENT), max_size=60), st.integers(0, 4), st.integers(1, 7))
def test_triples_as_a_slow_reading_has_them(rows: list[tuple[str, str, str]], most: int, block: int) -> None:
    expected: dict[tuple[str, str], dict[str, None]] = {}
    for query, positive, negative in rows:
        expected.setdefault((query, positive), {})[negative] = None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(judgements, "_BLOCK", block)
        found = shown(from_triples(rows, most))
    assert found == [(*pair, list(negatives)[:most]) for pair, negatives in expected.items()]


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(QUERY, DOCUMENT, st.integers(-1, 2)), max_size=60), st.integers(0, 4))
def test_qrels_as_a_slow_reading_has_them(rows: list[tuple[str, str, int]], most: int) -> None:
    good = dict.fromkeys((query, document) for query, document, relevance in rows if relevance > 0)
    bad = dict.fromkeys((query, document) for query, document, _ in rows if (query, document) not in good)
    expected = [(query, one, [other for asked, other in bad if asked == query][:most]) for query, one in good]
    assert shown(from_qrels(rows, most)) == expected
