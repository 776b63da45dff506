"""Random choices, an array at a time, beside the plainer ways to the same draws."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from beir_hybrid.training.draws import draw_any_pairs, draw_pairs, shuffled


@given(st.integers(2, 9), st.integers(1, 50), st.integers(0, 999))
def test_pairs_of_what_is_translated_throughout_are_drawn_as_any_others(languages: int, rows: int, seed: int) -> None:
    every = np.ones((rows, languages), dtype=bool)
    fast = draw_any_pairs(rows, languages, np.random.default_rng(seed))
    slow = draw_pairs(every, every, np.random.default_rng(seed))
    np.testing.assert_array_equal(fast, slow)
    assert (fast[0] != fast[1]).all()
    assert fast[1].max() < languages
    assert fast[1].min() >= 0


@pytest.mark.parametrize("count", [0, 1, 2, 1000])
def test_an_order_is_that_of_numpys_permutation(count: int) -> None:
    one, other = np.random.default_rng(5), np.random.default_rng(5)
    np.testing.assert_array_equal(shuffled(count, one), other.permutation(count))
    assert one.random() == other.random()
