"""Inner products that do not depend on where in a matrix the two vectors stand.

A score must not depend on the block that it was computed in, or a tie would be settled by rounding. Some BLAS kernels
sum in another order at the edges of a matrix, and OpenBLAS's for AVX2 does so all over it. So the way to multiply is
found by trying: the first that gives one pair of vectors the same product in every place.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from beir_hybrid.retrieval.vectors import FloatArray

if TYPE_CHECKING:
    import torch

Way = Callable[[FloatArray, FloatArray, FloatArray | None], FloatArray]
"""Multiplies two matrices of rows, (a, d) and (b, d), into one of shape (a, b): the third where there is one."""

# For narrow matrices a BLAS takes another kernel, which sums in another order. These widths (queries, passages) are
# past OpenBLAS's limit for small matrices.
_NARROWEST = (32, 512)
# (queries, passages) in which a pair is tried: the narrowest, and others whose edges are no multiples of anything.
_TRIED = ((32, 512), (61, 1033), (149, 515), (255, 2041))
_DIFFERENT = 7  # vectors on each side; a prime, so that each of them meets every place of a kernel's tile


def products(left: FloatArray, right: FloatArray, out: FloatArray, left_is_queries: bool) -> FloatArray:
    """Inner products, shape (left, right), in the memory of `out` where it is large enough and of use.

    The same numbers whatever blocks the vectors are in, and whichever of the two are the queries.
    """
    narrowest = _NARROWEST if left_is_queries else _NARROWEST[::-1]
    a, b = _widened(left, narrowest[0]), _widened(right, narrowest[1])
    size = len(a) * len(b)
    # Memory that is new costs a page fault every 4 KiB, a third of the time of the product itself.
    target = out[:size].reshape(len(a), len(b)) if size <= len(out) else None
    return way(left.shape[1])(a, b, target)[: len(left), : len(right)]


@cache
def way(dimensions: int) -> Way:
    """How vectors of so many numbers are multiplied on this machine: the fastest way that is the same in every place.

    Found in some hundredths of a second, once.
    """
    ways = (_by_blas, _by_onednn, _by_torch)
    return next((one for one in ways if same_everywhere(one, dimensions)), _by_einsum)


def same_everywhere(one: Way, dimensions: int) -> bool:
    """Whether pairs of vectors of so many numbers have the same product in every place of several matrices."""
    drawn = np.random.default_rng(0).standard_normal((2, _DIFFERENT, dimensions), dtype=np.float32)
    first: FloatArray | None = None
    for queries, passages in _TRIED:
        asked, found = (
            side[np.arange(rows) % _DIFFERENT] for side, rows in zip(drawn, (queries, passages), strict=True)
        )
        for product in (one(asked, found, None), one(found, asked, None).T):
            first = product[:_DIFFERENT, :_DIFFERENT].copy() if first is None else first
            if not np.array_equal(product, first[np.arange(queries) % _DIFFERENT][:, np.arange(passages) % _DIFFERENT]):
                return False
    return True


def _by_blas(left: FloatArray, right: FloatArray, out: FloatArray | None) -> FloatArray:
    product: FloatArray = np.matmul(left, right.T, out=out)
    return product


def _by_onednn(left: FloatArray, right: FloatArray, out: FloatArray | None) -> FloatArray:
    """On a CPU with AVX2 a tenth slower than OpenBLAS, and a third faster than PyTorch's own product."""
    import torch

    # What a compiled model's linear layers call; the public ways to it copy both matrices and the product.
    linear = getattr(torch.ops.mkldnn, "_linear_pointwise", None)
    if linear is None:  # a PyTorch without oneDNN
        return _by_torch(left, right, out)
    product: FloatArray = linear(_tensor(left), _tensor(right), None, "none", [], "").numpy()
    return product


def _by_torch(left: FloatArray, right: FloatArray, out: FloatArray | None) -> FloatArray:
    import torch

    product: FloatArray = torch.matmul(_tensor(left), _tensor(right).T).numpy()
    return product


def _by_einsum(left: FloatArray, right: FloatArray, out: FloatArray | None) -> FloatArray:
    """Slow and sure: each pair is summed by itself."""
    product: FloatArray = np.einsum("ad,bd->ab", left, right, out=out, optimize=False)
    return product


def _widened(vectors: FloatArray, rows: int) -> FloatArray:
    if len(vectors) >= rows:
        return vectors
    return np.concatenate([vectors, np.zeros((rows - len(vectors), vectors.shape[1]), dtype=np.float32)])


def _tensor(array: FloatArray) -> torch.Tensor:
    import torch

    return torch.from_numpy(array if array.flags.writeable else array.copy())  # of others PyTorch warns
