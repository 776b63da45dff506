from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beir_hybrid.errors import BeirHybridError
from beir_hybrid.training.joined import JoinedPairs, LanguageSets
from beir_hybrid.training.pairs import Negatives, ParallelPairs


def source(name: str, codes: str, items: int, seed: int, has: float = 0.6, same: bool = True) -> ParallelPairs:
    """Random pairs, in languages of one letter; texts say where they come from."""
    random = np.random.default_rng(seed)
    tables = []
    for _ in range(2):
        rows = np.arange(items * len(codes)).reshape(items, len(codes))
        rows[random.random(rows.shape) > has] = -1
        rows[:, 0] = np.arange(items) * len(codes)  # nobody is without any
        tables.append(rows)
    texts = [f"{name} {item} {code}" for item in range(items) for code in codes]
    group = np.unique(random.integers(max(1, items // 2), size=items), return_inverse=True)[1]
    return ParallelPairs(tuple(codes), texts, texts, tables[0], tables[1], group, name, name, same_language=same)


@given(st.integers(1, 40), st.integers(1, 20), st.integers(0, 99))
def test_language_sets_are_the_tables(languages: int, items: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    there = random.random((items, languages)) < 0.5
    columns = random.permutation(languages).tolist()
    sets = LanguageSets.of([np.where(there, 0, -1)], [columns], languages)
    everything = slice(0, items)
    np.testing.assert_array_equal(sets.table(everything, languages), there[:, columns])
    np.testing.assert_array_equal(sets.some(everything), there.any(axis=1))
    some = random.integers(items, size=7)
    for language in range(languages):
        np.testing.assert_array_equal(sets.has(language, some), there[some, columns[language]])


@settings(deadline=None)
@given(st.lists(st.sampled_from(["a", "ab", "bc", "cab"]), min_size=1, max_size=4), st.integers(0, 99))
def test_items_are_those_of_the_sources_in_turn(codes: list[str], seed: int) -> None:
    parts = [source(f"s{n}", own, 3 + n, seed + n, same=n != 1) for n, own in enumerate(codes)]
    joined = JoinedPairs(parts)
    assert joined.languages == tuple(dict.fromkeys("".join(codes)))
    assert len(joined) == sum(len(part) for part in parts)
    item, groups = 0, set()
    for number, part in enumerate(parts):
        own = joined.items_of(number)
        np.testing.assert_array_equal(joined.groups(own), joined.groups(np.arange(own.start, own.stop)))
        for place in range(len(part)):
            assert joined.source_of(np.array([item])).tolist() == [number]
            for q, asks in enumerate(joined.languages):
                for p, answers in enumerate(joined.languages):
                    try:
                        expected = part.pair(place, part.languages.index(asks), part.languages.index(answers))
                    except (BeirHybridError, ValueError):
                        with pytest.raises(BeirHybridError):
                            joined.row(item, q, p)
                        continue
                    query, passage, group, negatives = joined.row(item, q, p)
                    assert ((query, passage), negatives) == (expected, [])
                    assert group == joined.groups(np.array([item]))[0]
                    groups.add((number, int(part.item_group[place]), group))
            table = joined.both.table(np.array([item]), len(joined.languages))[0]
            assert part.same_language or not table.any()
            item += 1
    # Equal where the sources' own are equal, and never across sources.
    assert len({one[:2] for one in groups}) == len({one[2] for one in groups}) == len(groups)


def test_negatives_follow_their_passage() -> None:
    plain = source("plain", "ab", 4, 0, has=1)
    # Item 1 has two in language a, item 3 one in language b, which answers the items of group 0 after all.
    start = np.array([0, 0, 0, 0, 2, 2, 2, 3, 3])
    negatives = Negatives(["no", "nor", "yes"], start, np.arange(3), np.array([-1, -1, 0]))
    rich = ParallelPairs(
        ("b", "a"), plain.query_texts, plain.passage_texts, plain.query_row, plain.passage_row,
        np.arange(4), "rich", "", negatives,
    )  # fmt: skip
    joined = JoinedPairs([plain, rich])
    first = int(plain.item_group.max()) + 1
    # Of the whole the languages are a and b, of this source b and a.
    assert joined.row(5, 0, 1, 9)[3] == []
    assert joined.row(5, 1, 0, 9)[3] == [("no", -1), ("nor", -1)]
    assert joined.row(5, 1, 0, 1)[3] == [("no", -1)]
    assert joined.row(7, 0, 1, 9)[3] == [("yes", first)]
    assert joined.row(0, 0, 1, 9)[3] == []
    held = rich._take(np.array([True, False, False, True]), "held")
    assert held.negatives is not None
    assert [held.negatives.of(cell, 9) for cell in range(4)] == [([], []), ([], []), (["yes"], [0]), ([], [])]
    gone = rich._take(np.array([False, True, False, True]), "gone").negatives
    assert gone is not None
    assert gone.of(2, 9) == (["yes"], [-1])  # whom it answers is not there any more
    assert gone.of(1, 9) == (["no", "nor"], [-1, -1])


def test_sources_without_a_name_of_their_own_are_refused() -> None:
    with pytest.raises(BeirHybridError, match="two sources are called 's'"):
        JoinedPairs([source("s", "a", 2, 0), source("s", "ab", 2, 1)])
    with pytest.raises(BeirHybridError, match="at least one source"):
        JoinedPairs([])
