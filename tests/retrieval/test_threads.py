"""The threads that search."""

from __future__ import annotations

import sys

import pytest

from beir_hybrid.retrieval.threads import workers


@pytest.fixture
def long_turns():
    before = sys.getswitchinterval()
    sys.setswitchinterval(0.25)
    yield
    sys.setswitchinterval(before)


def test_turns_are_short_while_any_search_runs_and_as_before_after_the_last(long_turns):
    first, second = workers(), workers()
    first.__enter__()
    assert sys.getswitchinterval() < 0.001
    second.__enter__()
    first.__exit__(None, None, None)
    assert sys.getswitchinterval() < 0.001
    second.__exit__(None, None, None)
    assert sys.getswitchinterval() == 0.25


def test_turns_are_as_before_after_a_search_that_failed(long_turns):
    with pytest.raises(ZeroDivisionError), workers() as pool:
        list(pool.map(lambda number: 1 // number, [0]))
    assert sys.getswitchinterval() == 0.25


def test_turns_that_were_shorter_stay(long_turns):
    sys.setswitchinterval(1e-6)
    with workers():
        assert sys.getswitchinterval() == pytest.approx(1e-6)
