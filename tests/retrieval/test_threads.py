"""The threads that search."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

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


def test_torch_has_its_threads_again_after_searches_that_overlap():
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        first, second = workers(), workers()
        assert list(first.__enter__().map(lambda _: torch.get_num_threads(), range(2))) == [1, 1]
        with ThreadPoolExecutor(1) as other:
            other.submit(second.__enter__).result()
            first.__exit__(None, None, None)
            other.submit(second.__exit__, None, None, None).result()
        with ThreadPoolExecutor(1) as new:
            assert new.submit(torch.get_num_threads).result() == 3
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


def test_turns_that_were_shorter_stay(long_turns):
    sys.setswitchinterval(1e-6)
    with workers():
        assert sys.getswitchinterval() == pytest.approx(1e-6)
