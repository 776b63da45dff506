"""Inner products that are the same in every place."""

from __future__ import annotations

import numpy as np
import pytest

from beir_hybrid.retrieval import products as module
from beir_hybrid.retrieval.products import products, same_everywhere, way
from beir_hybrid.retrieval.search import top_k

WAYS = [module._by_blas, module._by_onednn, module._by_torch, module._by_einsum]


@pytest.fixture(params=[way_ for way_ in WAYS if same_everywhere(way_, 48)])
def one_way(request, monkeypatch):
    """Each way that is the same everywhere on this machine, taken by every search."""
    monkeypatch.setattr(module, "way", lambda dimensions: request.param)
    return request.param


@pytest.mark.parametrize("dimensions", [3, 48, 384, 1000])
def test_the_way_that_is_taken_is_the_same_everywhere(dimensions):
    assert same_everywhere(way(dimensions), dimensions)


@pytest.mark.parametrize("way_", WAYS)
def test_every_way_makes_inner_products(way_):
    generator = np.random.default_rng(0)
    left, right = (generator.standard_normal((rows, 48)).astype(np.float32) for rows in (61, 530))
    left.flags.writeable = False
    exact = left.astype(np.float64) @ right.astype(np.float64).T
    for out in (None, np.empty((61, 530), dtype=np.float32)):
        product = way_(left, right, out)
        assert product.shape == (61, 530)
        assert product.dtype == np.float32
        assert product.flags.writeable
        np.testing.assert_allclose(product, exact, atol=1e-5)


def test_a_way_that_sums_in_another_order_at_an_edge_is_found_out():
    def otherwise_at_the_edge(left, right, out):
        product = module._by_einsum(left, right, None)
        product[-1] = module._by_einsum(left[-1:, ::-1].copy(), right[:, ::-1].copy(), None)[0]
        return product

    assert same_everywhere(module._by_einsum, 48)
    assert not same_everywhere(otherwise_at_the_edge, 48)


@pytest.mark.parametrize("blocks", [(1, 1), (7, 300), (40, 700), (200, 2500)])
def test_products_are_the_same_in_any_block_and_on_either_side(one_way, blocks):
    generator = np.random.default_rng(1)
    asked, found = (generator.standard_normal((rows, 48)).astype(np.float32) for rows in (200, 2500))
    memory = np.empty(200 * 2500, dtype=np.float32)
    whole = products(asked, found, memory, True).copy()
    queries, passages = blocks
    for start in range(0, 200, 50 + queries):
        for begin in range(0, 2500, 500 + passages):
            some, others = asked[start : start + queries], found[begin : begin + passages]
            expected = whole[start : start + queries, begin : begin + passages]
            np.testing.assert_array_equal(products(some, others, memory, True), expected)
            np.testing.assert_array_equal(products(others, some, memory, False).T, expected)


def test_a_search_is_the_same_in_any_block(one_way):
    generator = np.random.default_rng(2)
    asked, found = (generator.standard_normal((rows, 48)).astype(np.float32) for rows in (70, 3000))
    ids = [f"{number:04d}" for number in range(3000)]
    for k in (1, 100, 3000):
        whole = top_k(asked, found, k, ids)
        for block in (33, 700):
            for one, other in zip(whole, top_k(asked, found, k, ids, block), strict=True):
                np.testing.assert_array_equal(one, other)
